package tokens

import "hubspot-auth-proxy/tokens/store"

// A decision says what follows from the two records of a portal that there are:
// the one that this process holds, and the one that Redis has.
type decision int

const (
	keep  decision = iota // both agree, or there is neither
	adopt                 // what Redis has is the truth
	save                  // what the process holds is the truth, and Redis lacks it
)

// reconcile decides which of two records is the truth; nil is none. A record
// that Redis does not have is a loss, and never a removal: a removal is a
// tombstone.
func reconcile(held, stored *store.Record) decision {
	switch {
	case held == nil && stored == nil:
		return keep
	case held == nil:
		return adopt
	case stored == nil:
		return save
	case stored.FirstSeed() && !held.Seeded(*stored):
		// The settings have a value that they did not have before. It was
		// stored after Redis had lost what this process holds.
		return adopt
	case held.Newer(*stored):
		return save
	case stored.Newer(*held):
		return adopt
	default:
		return keep
	}
}
