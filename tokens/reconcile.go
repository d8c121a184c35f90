package tokens

import "hubspot-auth-proxy/tokens/store"

// A decision is the result of the comparison of a portal's two records: the one that this process
// holds, and the one in Redis.
type decision int

const (
	keep  decision = iota // the records are the same, or there is none
	adopt                 // the record in Redis counts, and the process has to adopt it
	save                  // the held record counts, and Redis has to get it
)

// reconcile decides which of two records counts. nil means that there is no record. If Redis has
// no record, Redis has lost it; the portal was not removed, because a removal leaves a tombstone.
func reconcile(held, stored *store.Record) decision {
	switch {
	case held == nil && stored == nil:
		return keep
	case held == nil:
		return adopt
	case stored == nil:
		return save
	case stored.FirstSeed() && !held.Seeded(*stored):
		// The seed has a value that is new for the held record. It was stored after Redis
		// had lost the held record.
		return adopt
	case held.Newer(*stored):
		return save
	case stored.Newer(*held):
		return adopt
	default:
		return keep
	}
}
