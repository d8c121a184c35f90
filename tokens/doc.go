// Package tokens keeps the credential of each HubSpot portal: in Redis, where
// all replicas and commands share it, and in a cache of the process, from
// which requests are served without a round trip. It renews OAuth access
// tokens before they expire, once for all replicas.
//
// [Source] is what the proxy uses: [Source.Credential] gives a portal's
// credential, [Source.Renew] another one if HubSpot has rejected that.
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
//	  generation     µs since 1970 by Redis' clock, at least one more than
//	                 before with each new credential, so that the greater one
//	                 is the newer one, to all replicas
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
//	  name           for people
//	  seeds          SHA-256, in hex, of every value ever seeded, with spaces
//	nonce:…         string, expires: a state of the connect flow that was used
//	lock:{62515}    string, expires in 3 s: who renews the portal's token
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
// The state "ended" keeps the generation: a renewal that was under way, and
// returns with a token after all, is still the newer one. Among records of one
// generation, the ended one is the newer one.
package tokens
