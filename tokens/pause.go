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

// pause is a time without calls of the token endpoint, after a call has failed. The zero value
// means no pause.
type pause struct {
	until    time.Time
	failures int
	err      error
}

// extend begins a pause and returns its length: HubSpot's Retry-After, or otherwise a random time
// that grows with each failure.
func (p *pause) extend(now time.Time, retryAfter time.Duration, err error) time.Duration {
	wait := min(retryAfter, maxRetryAfter)
	if wait <= 0 {
		wait = min(firstPause<<min(p.failures, 10), maxPause)
		wait = jitter(wait/2, wait)
	}
	p.until, p.err = now.Add(wait), err
	p.failures++
	return wait
}

// check returns nil, or an error for the portal while the pause lasts.
func (p *pause) check(portal string, now time.Time) error {
	if left := p.until.Sub(now); left > 0 {
		return unavailable(portal, left, p.err)
	}
	return nil
}

// appPause is a pause of all portals, because HubSpot throttles or refuses the whole app. mu
// guards the pause.
type appPause struct {
	mu sync.Mutex
	pause
}

// jitter returns a random duration of at least low and less than high, or low if high is not
// greater.
func jitter(low, high time.Duration) time.Duration {
	if high <= low {
		return low
	}
	return low + rand.N(high-low)
}

// postpone begins a pause of the portal because of err, and returns the error for the portal's
// requests during the pause.
func (s *Source) postpone(e *entry, retryAfter time.Duration, err error) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return unavailable(e.id, e.pause.extend(s.now(), retryAfter, err), err)
}

// postponeAll begins a pause of all portals because of err.
func (s *Source) postponeAll(e *entry, retryAfter time.Duration, err error) error {
	s.app.mu.Lock()
	defer s.app.mu.Unlock()
	return unavailable(e.id, s.app.extend(s.now(), retryAfter, err), err)
}

// AppChanged ends a pause of all portals, because the client secret has changed.
func (s *Source) AppChanged() {
	s.app.mu.Lock()
	defer s.app.mu.Unlock()
	s.app.pause = pause{}
}

// paused returns an error during a pause of the portal or of all portals, and otherwise nil.
func (s *Source) paused(e *entry) error {
	now := s.now()
	s.app.mu.Lock()
	err := s.app.check(e.id, now)
	s.app.mu.Unlock()
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.pause.check(e.id, now)
}

// resume forgets failures, because the token endpoint has returned a token. A pause of all
// portals that has not ended stays, because it began after that call.
func (s *Source) resume(e *entry) {
	now := s.now()
	s.app.mu.Lock()
	if !now.Before(s.app.until) {
		s.app.pause = pause{}
	}
	s.app.mu.Unlock()
	e.mu.Lock()
	e.pause = pause{}
	e.mu.Unlock()
}
