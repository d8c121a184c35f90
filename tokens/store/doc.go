// Package store keeps the portals' records in Redis: their layout, the sealing
// of their secrets, the lock of a renewal, the hints about changes, and whether
// Redis answers. It decides nothing: package tokens does.
//
// # Layout of Redis
//
// Every key and channel begins with a prefix, "hubspot:" unless set otherwise.
// The portal stands in a hash tag, so that a portal's keys share a slot of a
// Redis Cluster, and scripts may touch both.
//
//	portal:{62515}  hash, never expires: a portal's record
//	  schema         "1"
//	  kind           "oauth", "access_token" or "api_key"
//	  state          "active"; "ended": HubSpot ended the grant;
//	                 "removed": a tombstone, which has no credential
//	  grant          when the grant or the static credential was set, connected
//	                 or removed: µs since 1970 by Redis' clock, at least one
//	                 more than that of the record before; 1 for a seed that was
//	                 stored where there was no record. A renewal keeps it
//	  generation     the same for each credential of a grant: a renewal gets at
//	                 least one more than the generation before, by Redis' clock,
//	                 or by the process' own where Redis does not answer
//	  access_token   of kind oauth and access_token
//	  api_key        of kind api_key
//	  refresh_token  of kind oauth
//	  expires_at     ms since 1970: end of the access token's life, kind oauth
//	  renewed_at     ms since 1970: the last renewal
//	  set_at         µs since 1970 by Redis' clock: when it was set, seeded,
//	                 connected or removed; a renewal keeps it. Empty in records
//	                 of versions that did not note it
//	  renewed_for    what the last renewal was for: "expiry" or "rejection"
//	  ended_code     HubSpot's code for the end of the grant
//	  ended_at       ms since 1970: when HubSpot refused the grant first
//	  tried_with     fingerprints of the client ids and secrets that an ended grant
//	                 was tried with, with spaces; "?": HubSpot neither accepted
//	                 nor refused it
//	  rejected_at    ms since 1970: since when HubSpot rejects a static credential
//	  noted_at       ms since 1970: when what HubSpot says of this credential was
//	                 last noted, for ended grants and static credentials. It orders
//	                 two records that have the same numbers and state
//	  app            the client id that HubSpot gave the grant to, and a hash of the
//	                 refresh token, without whose grant it does not count. Empty:
//	                 not known yet, as in records of versions that did not note it
//	  scopes         of the grant, with spaces; empty: not known
//	  history        the last eight renewals of the grant: ms since 1970, "=", and
//	                 what each was for, or "ended:" and ended_code, with spaces.
//	                 A version that does not know it leaves it as it is
//	  name           for people
//	  seeds          SHA-256, in hex, of every value ever seeded, with spaces
//	nonce:…         string, expires: a state of the connect flow that was used
//	lock:{62515}    string, expires in 5 s: who renews the portal's token
//	epoch           string: µs since 1970 by Redis' clock, "-" and random text,
//	                made by whoever finds it missing. Another value than before
//	                means that Redis has lost its data, nonces too
//	events:EPOCH    channel: the portal, after each change of its record. Its
//	                name holds the epoch, so that it is known to those who may
//	                read the keys, and no other database of the server has it
//
// A message is a hint to read a record, and nothing more: neither a state nor a
// generation is taken from one.
//
// A field that does not apply is empty or missing. The secrets, access_token,
// api_key and refresh_token, are sealed as package seal has it, if there are
// keys.
//
// Of two records of a portal the one with the greater grant is the newer one,
// then the one with the greater generation, then the one whose grant has ended,
// then the one with the later noted_at:
// "ended" keeps the generation, so that a renewal that was under way, and
// returns with a token after all, is still newer. Both numbers belong to the
// credential and not to the write: a process that writes back what it holds,
// after Redis has lost it, keeps them.
//
// Nothing deletes a record; a removal is a tombstone. A record that is missing,
// or older than one that was there, is a loss of Redis' data.
package store
