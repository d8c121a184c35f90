package tokens

import (
	"sync"
	"time"
)

const (
	firstPause = 500 * time.Millisecond
	mostPause  = 30 * time.Second

	// longestPause bounds what HubSpot asks for by Retry-After, so that a slip
	// of its does not keep a portal from recovering.
	longestPause = 5 * time.Minute
)

// pause is a time without calls of the token endpoint, after one that failed.
// The zero value is no pause.
type pause struct {
	until    time.Time
	failures int
	err      error
}

// extend begins a pause: as long as HubSpot asked for, else longer after each
// failure, and not the same in all replicas. It returns how long.
func (p *pause) extend(now time.Time, retryAfter time.Duration, err error) time.Duration {
	wait := min(retryAfter, longestPause)
	if wait <= 0 {
		wait = min(firstPause<<min(p.failures, 10), mostPause)
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

// isUnusable returns an error for a while after the record could not be used.
func (e *entry) isUnusable(now time.Time) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.unusable.check(e.id, now)
}

// appPause is a pause of all portals: HubSpot throttles by app, and refuses a
// wrong client secret to all alike. Safe for concurrent use.
type appPause struct {
	mu sync.Mutex
	pause
}

// postpone begins a pause of the portal, and returns the error while it lasts.
func (s *Source) postpone(e *entry, retryAfter time.Duration, err error) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return unavailable(e.id, e.pause.extend(s.now(), retryAfter, err), err)
}

// postponeAll begins a pause of all portals.
func (s *Source) postponeAll(e *entry, retryAfter time.Duration, err error) error {
	s.app.mu.Lock()
	defer s.app.mu.Unlock()
	return unavailable(e.id, s.app.extend(s.now(), retryAfter, err), err)
}

// paused returns nil, or an error while the portal may not be renewed.
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

// resume forgets failures: the token endpoint has given a token. A pause of the
// app that still lasts stays, for it began after that call did.
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
