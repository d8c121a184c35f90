// Package tokens provides the credential of each HubSpot portal. All replicas and commands share
// the credentials in Redis; package store has the layout. Each process also keeps them in a
// cache, so that requests need no round trip to Redis. The package renews OAuth access tokens
// before they expire, once for all replicas.
//
// The proxy uses a [Source]. [Source.Credential] returns a portal's credential, and
// [Source.Renew] returns another one if HubSpot has rejected that credential.
//
// The record that the process holds and the record in Redis can differ: Redis may return to an
// earlier state after a failover or a crash, Redis may lose its data, or the process may be cut
// off from Redis. The function reconcile decides which of the two records counts. When a record
// is read, the process adopts it if it is newer. When Redis lacks the newer record,
// [Source.sync] writes the record back, and repeats that until it succeeds. A record that is
// written back keeps its numbers, so it does not become newer.
package tokens
