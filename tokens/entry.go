package tokens

import (
	"sync"
	"sync/atomic"
	"time"

	"hubspot-auth-proxy/tokens/store"
)

// checkEvery is the time after which a cached record is read again, because a hint about its
// change may have been lost. checkSoon is that time after a read has failed.
const (
	checkEvery = 60 * time.Second
	checkSoon  = 5 * time.Second
)

// entry is what the process knows about one portal. The cache may drop an entry; then all its
// values are lost.
type entry struct {
	id      string
	current atomic.Pointer[held] // nil until the record is read for the first time
	checkAt atomic.Int64         // when to read the record again, in ns since 1970

	// hints is the number of messages that the record has changed. followed is the
	// value of hints before the last read of the record.
	hints, followed atomic.Uint64

	renewing atomic.Bool  // a renewal in the background is under way
	aheadAt  atomic.Int64 // when a renewal ahead of time may be tried again, in ns since 1970
	unsaved  atomic.Bool  // the portal was renewed, and Redis has not stored that yet

	lastRead atomic.Int64 // when the record was last read because of a rejection, in ns since 1970

	tokens int // number of tokens that this process has received; used only in a flight of the portal

	pause    pause // no renewals, because one has failed
	unusable pause // no reads, because the record cannot be used

	mu      sync.Mutex // guards attempt, and writes of current
	attempt time.Time  // when a renewal was last tried because of a rejection
}

// held is a record with the values that the process derives from it. It does not change.
type held struct {
	store.Record
	credential *Credential // nil for a tombstone
	renewAt    time.Time   // when to renew the credential; zero means never
}

// hinted reports whether the record must be read before it is used again.
func (e *entry) hinted() bool { return e.hints.Load() != e.followed.Load() }

// record returns the record that the process holds, or nil if it holds none.
func (e *entry) record() *store.Record {
	if h := e.current.Load(); h != nil {
		return &h.Record
	}
	return nil
}

// usable reports whether requests can be sent with the held credential.
func (h *held) usable(now time.Time) bool {
	return h.credential != nil && !h.Expired(now) && !h.credential.learned.useless.Load()
}

// checkAfter sets the time of the next read to d from now and up to a fifth more, so that
// portals that were read at the same time are not read at the same time again.
func (e *entry) checkAfter(now time.Time, d time.Duration) {
	e.checkAt.Store(now.Add(jitter(d, d+d/5)).UnixNano())
}

// hold makes next the held record. If the secret stays the same, next takes over what was
// learned about the credential. e.mu is locked.
func (e *entry) hold(next *held) {
	if former := e.current.Load(); former != nil && former.credential != nil && next.credential != nil && former.Secret.Equal(next.Secret) {
		next.credential.learned = former.credential.learned
		if rejection := former.credential.learned.rejection; rejection != nil {
			rejection.set(next.RejectedAt)
		}
		if former.ExpiresAt.Equal(next.ExpiresAt) && former.Generation == next.Generation {
			next.credential = former.credential
		}
	}
	e.current.Store(next)
}

// holdRenewed makes next, which was renewed from the record from, the held record, unless the
// portal has a newer credential meanwhile.
func (e *entry) holdRenewed(next *held, from store.Record) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if current := e.current.Load(); current.SameTokens(from) || next.Newer(current.Record) {
		e.hold(next)
	}
}

// saved records that Redis has stored h, unless the portal was renewed meanwhile.
func (e *entry) saved(h *held) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.current.Load() == h {
		e.unsaved.Store(false)
	}
}
