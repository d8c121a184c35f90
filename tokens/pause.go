package tokens

import (
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// firstPause is the longest pause after the first failure. Each further failure
	// doubles it, up to maxPause.
	firstPause = 500 * time.Millisecond
	maxPause   = 30 * time.Second

	// maxRetryAfter limits the time of HubSpot's Retry-After, so that a wrong value does
	// not keep a portal from recovering.
	maxRetryAfter = 5 * time.Minute
)

// A pause is a time without calls of the token endpoint or without reads of a record, because a call
// or a read has failed. The zero value means no pause. A pause is safe for concurrent use.
type pause struct {
	mu       sync.Mutex
	until    time.Time
	failures int // since the last success
	err      error
}

// extend begins a pause because of err, and returns the error for the portal's requests during the
// pause. The pause lasts for retryAfter, and at most for maxRetryAfter. If retryAfter is 0, the
// pause lasts for a random time that grows with each failure.
func (p *pause) extend(portal string, now time.Time, retryAfter time.Duration, err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.begin(portal, now, retryAfter, err)
}

// extendIfOver is like extend, and does nothing while a pause lasts. It returns the number of failures
// before this one, and whether it began a pause.
func (p *pause) extendIfOver(portal string, now time.Time, length time.Duration, err error) (failures int, began bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	failures, began = p.failures, !p.until.After(now)
	if began {
		_ = p.begin(portal, now, length, err)
	}
	return failures, began
}

// begin is extend for a caller that holds mu.
func (p *pause) begin(portal string, now time.Time, retryAfter time.Duration, err error) error {
	wait := min(retryAfter, maxRetryAfter)
	if wait <= 0 {
		wait = min(firstPause<<min(p.failures, 10), maxPause)
		wait = jitter(wait/2, wait)
	}
	p.until, p.err = now.Add(wait), err
	p.failures++
	return unavailable(portal, wait, err)
}

// check returns nil, or an error for the portal while the pause lasts.
func (p *pause) check(portal string, now time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if left := p.until.Sub(now); left > 0 {
		return unavailable(portal, left, p.err)
	}
	return nil
}

// last returns the end of the last pause, the number of failures, and the last failure, which is nil if
// there was a success since.
func (p *pause) last() (until time.Time, failures int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.until, p.failures, p.err
}

// end ends the pause and forgets the failures.
func (p *pause) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.until, p.failures, p.err = time.Time{}, 0, nil
}

// endIfOver forgets the failures, unless a pause lasts.
func (p *pause) endIfOver(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.until.After(now) {
		p.until, p.failures, p.err = time.Time{}, 0, nil
	}
}

// jitter returns a random duration of at least low and less than high, or low if high is not
// greater.
func jitter(low, high time.Duration) time.Duration {
	if high <= low {
		return low
	}
	return low + rand.N(high-low)
}
