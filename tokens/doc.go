// Package tokens hands out the credential of each HubSpot portal. It keeps them
// in Redis, where all replicas and commands share them (package store has the
// layout), and in a cache of the process, from which requests are served without
// a round trip. It renews OAuth access tokens before they expire, once for all
// replicas.
//
// [Source] is what the proxy uses: [Source.Credential] returns a portal's
// credential, [Source.Renew] another one if HubSpot has rejected that.
//
// What the process holds and what Redis has can differ: Redis goes back to an
// earlier state, in a failover or after a crash, or loses its data, and a
// process can be cut off. reconcile decides which of the two is the truth.
// Reading a record adopts what is newer. What Redis lacks is stored by
// [Source.settle], again and again until that is done, with the numbers that it
// has: writing a record back makes it no newer.
package tokens
