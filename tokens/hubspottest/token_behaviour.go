package hubspottest

import (
	"net/http"
	"time"
)

// defaultLife is how long HubSpot's access tokens live.
const defaultLife = 1800 * time.Second

// A TokenBehaviour is what the token endpoint does. The zero value answers at
// once, with a token of 1800 s and the refresh token it was called with.
//
// What is set here comes before the check of the call: with a Status, also a
// wrong client secret is answered so. Hang goes before Reset, and that before
// Status and Code.
type TokenBehaviour struct {
	// Life is how long new access tokens live. The answer's expires_in is
	// this in whole seconds, rounded up; the token dies after exactly Life.
	// Zero means 1800 s. A negative one gives tokens that are dead at once,
	// and an expires_in of zero or less.
	Life time.Duration

	// Rotate makes each refresh give a new refresh token and end the one it
	// was called with.
	Rotate bool

	// OmitRefreshToken leaves refresh_token out of the answer. Nothing is
	// rotated then.
	OmitRefreshToken bool

	// OmitHubID leaves hub_id out of the answer.
	OmitHubID bool

	// EmptyAccessToken answers 200 with an access_token that is empty.
	EmptyAccessToken bool

	// Latency is waited before whatever else happens.
	Latency time.Duration

	// Status, if not zero, is answered instead of the regular answer, and
	// every call fails.
	Status int

	// RetryAfter, if not empty, is the Retry-After header of an answer with
	// Status or Code.
	RetryAfter string

	// Body is the body of an answer with Status. Empty means HubSpot's: that
	// of Code, or RATE_LIMIT/SECONDLY for 429, or else none.
	Body string

	// Code, if not empty, answers HubSpot's error of that `status`, such as
	// BAD_REFRESH_TOKEN or BAD_HUB, with the OAuth `error` that goes with it.
	// Status zero means 400 then.
	Code string

	// OldShape gives the errors the shape they had before 2026, without
	// error and error_description; those of wrong calls too.
	OldShape bool

	// Hang never answers until Close, until the client leaves, or until
	// SetToken is called, whose behaviour then answers the waiting calls.
	Hang bool

	// Reset resets the connection once the call was read.
	Reset bool
}

// tokenSwitch is the behaviour in force. Server.mu guards it.
type tokenSwitch struct {
	behaviour TokenBehaviour
	changed   chan struct{} // closed by the next SetToken
}

// SetToken sets what the token endpoint does from now on. Calls that wait out
// a Latency keep the behaviour they began with.
func (s *Server) SetToken(b TokenBehaviour) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.token.behaviour = b
	close(s.token.changed)
	s.token.changed = make(chan struct{})
}

// awaitBehaviour returns the behaviour to answer with, after its latency. It
// reports false if there is nobody to answer any more.
func (s *Server) awaitBehaviour(r *http.Request) (TokenBehaviour, bool) {
	for {
		s.mu.Lock()
		b, changed := s.token.behaviour, s.token.changed
		s.mu.Unlock()

		if b.Latency > 0 {
			timer := time.NewTimer(b.Latency)
			defer timer.Stop()
			if !await(s, r, timer.C) {
				return b, false
			}
		}
		if !b.Hang {
			return b, true
		}
		if !await(s, r, changed) {
			return b, false
		}
	}
}

// await waits for c, and reports false if the client left or the server was
// closed before.
func await[T any](s *Server, r *http.Request, c <-chan T) bool {
	select {
	case <-c:
		return true
	case <-r.Context().Done():
	case <-s.done:
	}
	return false
}
