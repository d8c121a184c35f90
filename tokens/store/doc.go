// Package store keeps the portals' records in Redis. It has the records' layout, the sealing
// of their secrets, the lock of a renewal, the hints about changes, and the state of the
// connection to Redis. Package tokens decides which records are used and when they are
// written.
//
// # Layout of Redis
//
// Every key and channel begins with a prefix, by default "hubspot:". Keys have the portal in
// a hash tag, so that all keys of a portal are in one slot of a Redis Cluster and one script
// can use them.
//
//	portal:{62515}  hash, never expires: a portal's record
//	  schema         "1"
//	  kind           "oauth", "access_token" or "api_key"
//	  state          "active"; "ended", after HubSpot has refused the grant; or
//	                 "removed", for a tombstone, which has no credential
//	  grant          number of the grant or static credential: the time at which it
//	                 was set, connected or removed, in µs since 1970 by Redis' clock,
//	                 and at least one more than the number before. 1 for a seed that
//	                 was stored where there was no record. A renewal keeps it
//	  generation     number of the credential, which a renewal changes: the time in
//	                 µs since 1970, and at least one more than the number before. By
//	                 Redis' clock, or by the process's if Redis does not answer
//	  access_token   for the kinds oauth and access_token
//	  api_key        for the kind api_key
//	  refresh_token  for the kind oauth
//	  expires_at     ms since 1970: expiry of the access token, for the kind oauth
//	  renewed_at     ms since 1970: the last renewal
//	  set_at         µs since 1970 by Redis' clock: the time at which the portal was
//	                 set, seeded, connected or removed. A renewal keeps it. Empty in
//	                 records of earlier versions, which did not store it
//	  renewed_for    reason of the last renewal: "expiry" or "rejection"
//	  ended_code     HubSpot's code when it refused the grant
//	  ended_at       ms since 1970: the time at which HubSpot first refused the grant
//	  tried_with     fingerprints of the client ids and secrets with which an ended
//	                 grant was tried, separated by spaces. "?" after a fingerprint
//	                 means that HubSpot neither accepted nor refused that try
//	  rejected_at    ms since 1970: since when HubSpot rejects a static credential
//	  noted_at       ms since 1970: the time at which HubSpot's last decision about an
//	                 ended grant or a static credential was stored. It orders two
//	                 records that have the same numbers and state
//	  app            client id of the app that has the grant, a space, and a hash of
//	                 the refresh token. The client id does not count if the hash is
//	                 that of another token. Empty means not known, as in records of
//	                 earlier versions
//	  scopes         scopes of the grant, separated by spaces. Empty means not known
//	  history        the last eight renewals of the grant, separated by spaces. Each
//	                 is ms since 1970, "=", and the reason, or "ended:" and ended_code.
//	                 A version that does not know this field keeps it
//	  name           name of the portal, for people
//	  seeds          SHA-256, in hex, of every value ever seeded, separated by spaces
//	nonce:…         string, expires: nonce of a used state of the connect flow
//	lock:{62515}    string, expires in 5 s: the process that renews the portal's token
//	epoch           string: µs since 1970 by Redis' clock, "-", and random text. A
//	                process that finds no epoch makes one. If the value changes,
//	                Redis has lost its data, including nonces
//	keyring:…       string, expires in 1 min: ids of the keys with which a proxy opens
//	                secrets, separated by commas; "plain" stands for unsealed secrets.
//	                Each process of a proxy has a key with a random name, writes it
//	                every 15 s, and deletes it when it ends. Commands refuse to store
//	                what one of these proxies does not use
//	events:EPOCH    channel: the portal's id, after each change of its record. The
//	                name contains the epoch, so that only users who may read the keys
//	                know it, and no other database of the server has the same
//
// A message is only a hint to read a record again. No state and no generation is taken from
// a message.
//
// A field that does not apply is empty or missing. The secrets access_token, api_key and
// refresh_token are sealed by package seal if there are keys.
//
// Of two records of a portal, the record with the greater grant is newer. If the grants are
// equal, the record with the greater generation is newer, then an ended record, then the
// record with the later noted_at. A record keeps its generation when its grant ends. So if a
// renewal that was under way returns a token after all, its record is newer. The numbers
// belong to the credential, not to the write: a process that writes back a record after Redis
// has lost it keeps the numbers.
//
// The program never deletes a record; a removal is a tombstone. If a record is missing, or
// older than the record that was there, Redis has lost data.
package store
