package tokens

import (
	"time"
)

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
