package tokens

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// checkEvery is how long a cached record is used before it is read again, in
// case that the event of its change was lost; checkSoon is that time after
// reading failed.
const (
	checkEvery = 60 * time.Second
	checkSoon  = 5 * time.Second
)

// portal is what the process knows of one portal. It outlives its snapshots.
type portal struct {
	id      string
	current atomic.Pointer[snapshot] // nil: not read yet, or gone

	// hints counts the messages that say that the record has changed, and
	// followed how many of them have been followed by reading it.
	hints, followed atomic.Uint64

	renewing atomic.Bool // in the background

	tokens int // how many this process has got; for flights, which come one by one

	mu       sync.Mutex // guards what follows, and writing current
	pause    pause      // of renewals, after a failed one
	unusable pause      // of reading, as the record cannot be used
	attempt  time.Time  // the last renewal that was tried for a rejection
	lastRead time.Time  // the last reading of a static record for a rejection
}

// hinted reports whether the record is to be read before it is used again.
func (p *portal) hinted() bool { return p.hints.Load() != p.followed.Load() }

// snapshot is a portal's record at one time, as the process uses it. It does
// not change, but for when it is read again.
type snapshot struct {
	credential *Credential  // nil if there is nothing to send
	checkAt    atomic.Int64 // when to read it again, in ns since 1970
	renewAt    time.Time    // when to begin renewing it; zero: never
	record

	// stored is the generation that Redis has, as far as is known: that of
	// the record, unless it was renewed and could not be stored yet.
	stored int64
	epoch  string // the life of Redis in which it was there

	// from is what an unsaved snapshot was renewed from. Redis may have it
	// as another generation than stored by now.
	from record
}

// saved reports whether Redis has the record.
func (s *snapshot) saved() bool { return s.stored == s.generation }

// usable reports whether requests can be sent with the snapshot's credential.
func (s *snapshot) usable(now time.Time) bool {
	return s.credential != nil && !s.expired(now) && !s.credential.dead.Load()
}

// answer returns the portal's credential, or why there is none: errExpired, if
// renewing it may give one.
func (s *snapshot) answer(portal string, now time.Time) (*Credential, error) {
	switch {
	case s.usable(now):
		return s.credential, nil
	case s.state == removed:
		return nil, ErrNotConnected
	case s.state == ended:
		return nil, &EndedError{Portal: portal, Code: s.endedCode}
	default:
		return nil, errExpired
	}
}

// settles reports whether s makes it needless to renew old: it has another
// secret that can be used, or there is nothing to be had any more.
func (s *snapshot) settles(old *snapshot, now time.Time) bool {
	return s.state != active || s.usable(now) && !s.secret.Equal(old.secret)
}

// checkAfter puts off the next reading, by d and up to a fifth more, so that
// portals read at one moment are not all read at one moment again.
func (s *snapshot) checkAfter(now time.Time, d time.Duration) {
	s.checkAt.Store(now.Add(jitter(d, d+d/5)).UnixNano())
}

// replace makes next current in the place of held, and reports whether it did:
// whoever read or stored a record late does not undo a change that came in
// between.
func (p *portal) replace(held, next *snapshot) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current.Load() != held {
		return false
	}
	if held != nil && held.credential != nil && next.credential != nil &&
		held.secret.Equal(next.secret) && held.expiresAt.Equal(next.expiresAt) {
		next.credential = held.credential // and what is known of it
	}
	p.unusable = pause{} // if it was, it has been mended
	p.current.Store(next)
	return true
}

// succeed makes next, which was renewed from next.from, current, unless the
// portal has got another credential meanwhile.
func (p *portal) succeed(next *snapshot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	current := p.current.Load()
	if current == nil || !current.sameTokens(next.from) {
		return
	}
	// It may have been stored again meanwhile.
	next.stored, next.epoch = current.stored, current.epoch
	next.generation = next.stored + 1
	p.current.Store(next)
}

// drop forgets the snapshot, and reports false if there is another one by now.
func (p *portal) drop(s *snapshot) bool { return p.current.CompareAndSwap(s, nil) }

// snapshot makes a snapshot of a record that Redis has with generation stored.
func (s *Source) snapshot(id string, r record, stored int64, epoch string) *snapshot {
	now := s.now()
	next := &snapshot{record: r, stored: stored, epoch: epoch}
	next.checkAfter(now, checkEvery)
	if r.state == removed {
		return next
	}
	next.credential = &Credential{
		Portal: id, Kind: r.kind, Secret: r.secret, Expiry: r.expiresAt,
		renewedAt: r.renewedAt, renewedFor: r.renewedFor,
	}
	if r.kind == OAuth && r.state == active {
		next.renewAt = s.renewAt(r, now)
	}
	return next
}

// renewAt returns when to renew the record ahead of its end: by the time set,
// but at most by a quarter of its life, and a bit later in some replicas and
// portals than in others, so that they do not all ask at once.
func (s *Source) renewAt(r record, now time.Time) time.Time {
	begin := r.renewedAt
	if begin.IsZero() {
		begin = now
	}
	ahead := min(s.options.RefreshAhead, r.expiresAt.Sub(begin)/4)
	return r.expiresAt.Add(-jitter(ahead*4/5, ahead))
}

// jitter returns a random duration from low to high.
func jitter(low, high time.Duration) time.Duration {
	if high <= low {
		return low
	}
	return low + rand.N(high-low)
}
