package tokens

import (
	"sync"
	"sync/atomic"
	"time"

	"hubspot-auth-proxy/tokens/store"
)

// checkEvery is how long a cached record is used before it is read again, in
// case that a hint about its change was lost; checkSoon is that time after
// reading failed.
const (
	checkEvery = 60 * time.Second
	checkSoon  = 5 * time.Second
)

// entry is what the process knows about one portal. Other values than current
// are for as long as the entry is cached.
type entry struct {
	id      string
	current atomic.Pointer[held] // nil: not read yet
	checkAt atomic.Int64         // when to read the record again, in ns since 1970

	// hints counts the messages that say that the record has changed, and
	// followed how many of them have been followed by reading it.
	hints, followed atomic.Uint64

	renewing atomic.Bool  // in the background
	aheadAt  atomic.Int64 // when it may be renewed ahead of time, in ns since 1970
	unsaved  atomic.Bool  // it was renewed, and Redis could not store that yet

	tokens int // how many this process has got; for flights, which come one by one

	mu       sync.Mutex // guards what follows, and writing current
	pause    pause      // of renewals, after a failed one
	unusable pause      // of reading, because the record cannot be used
	attempt  time.Time  // the last renewal that was tried for a rejection
	lastRead time.Time  // the last reading of a static record for a rejection
}

// held is a record as the process uses it. It does not change.
type held struct {
	store.Record
	credential *Credential // nil: a tombstone has none
	renewAt    time.Time   // when to begin renewing it; zero: never
}

// hinted reports whether the record is to be read before it is used again.
func (e *entry) hinted() bool { return e.hints.Load() != e.followed.Load() }

// record returns the record that the process holds, nil if it holds none.
func (e *entry) record() *store.Record {
	if h := e.current.Load(); h != nil {
		return &h.Record
	}
	return nil
}

// usable reports whether requests can be sent with what is held.
func (h *held) usable(now time.Time) bool {
	return h.credential != nil && !h.Expired(now) && !h.credential.learned.dead.Load()
}

// checkAfter puts off the next reading, by d and up to a fifth more, so that
// portals read at one moment are not all read at one moment again.
func (e *entry) checkAfter(now time.Time, d time.Duration) {
	e.checkAt.Store(now.Add(jitter(d, d+d/5)).UnixNano())
}

// hold makes next current. e.mu is locked.
func (e *entry) hold(next *held) {
	if former := e.current.Load(); former != nil && former.credential != nil && next.credential != nil && former.Secret.Equal(next.Secret) {
		next.credential.learned = former.credential.learned
		if judgement := former.credential.learned.judgement; judgement != nil {
			judgement.set(next.RejectedAt)
		}
		if former.ExpiresAt.Equal(next.ExpiresAt) && former.Generation == next.Generation {
			next.credential = former.credential
		}
	}
	e.current.Store(next)
}

// succeed makes next, which was renewed from a record, current, unless the
// portal has got another credential meanwhile.
func (e *entry) succeed(next *held, from store.Record) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if current := e.current.Load(); current != nil && (current.SameTokens(from) || next.Newer(current.Record)) {
		e.hold(next)
	}
}

// saved notes that Redis has what is held, unless it was renewed meanwhile.
func (e *entry) saved(h *held) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.current.Load() == h {
		e.unsaved.Store(false)
	}
}

// isUnusable returns an error for a while after the record could not be used.
func (e *entry) isUnusable(now time.Time) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.unusable.check(e.id, now)
}
