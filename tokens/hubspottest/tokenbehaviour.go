package hubspottest

import (
	"net/http"
	"time"
)

// defaultLife is the lifetime of HubSpot's access tokens.
const defaultLife = 1800 * time.Second

// A TokenBehaviour is the behaviour of the token endpoint. With the zero value, the endpoint
// answers at once, with a token that lives 1800 s and with the refresh token of the call.
//
// The behaviour is applied before the call is checked: with a Status, for example, a call
// with a wrong client secret gets this status too. Hang has precedence over Reset, and Reset
// over Status and Code.
type TokenBehaviour struct {
	// Life is the lifetime of new access tokens. The answer's expires_in is Life in
	// whole seconds, rounded up; the token expires after exactly Life. 0 means 1800 s.
	// With a negative Life, tokens have expired at once and expires_in is 0 or less.
	Life time.Duration

	// Rotate makes each renewal issue a new refresh token and end the former one.
	Rotate bool

	// OmitRefreshToken leaves refresh_token out of the answer. The refresh token is
	// not rotated then.
	OmitRefreshToken bool

	// OmitHubID leaves hub_id out of the answer.
	OmitHubID bool

	// EmptyAccessToken makes the endpoint answer 200 with an empty access_token.
	EmptyAccessToken bool

	// Latency is the time that passes before the endpoint does anything else.
	Latency time.Duration

	// Status is the status with which every call fails. 0 means that calls succeed.
	Status int

	// RetryAfter is the Retry-After header field of an answer with Status or Code.
	// Empty means none.
	RetryAfter string

	// Body is the body of an answer with Status. Empty means HubSpot's body for Code,
	// or, without Code, that of RATE_LIMIT/SECONDLY for 429 and none for other statuses.
	Body string

	// Code makes every call fail with HubSpot's error of this `status`, such as
	// BAD_REFRESH_TOKEN or BAD_HUB, and with the matching OAuth `error`. The HTTP
	// status is Status, or 400 if Status is 0. Empty means no such error.
	Code string

	// OldShape gives all errors, including those of invalid calls, the form that they
	// had before 2026: without error and error_description.
	OldShape bool

	// Hang makes the endpoint not answer. A call waits until the server is closed, the
	// client disconnects, or SetToken sets another behaviour, which then applies to
	// the waiting call.
	Hang bool

	// Reset makes the endpoint reset the connection after it has read the call.
	Reset bool
}

// tokenSwitch has the current behaviour. Server.mu guards it.
type tokenSwitch struct {
	behaviour TokenBehaviour
	changed   chan struct{} // closed by the next SetToken
}

// SetToken sets the behaviour of the token endpoint from now on. A call that waits for its
// Latency to pass keeps the former behaviour.
func (s *Server) SetToken(b TokenBehaviour) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.token.behaviour = b
	close(s.token.changed)
	s.token.changed = make(chan struct{})
}

// awaitBehaviour waits for the latency and while calls hang, and returns the behaviour for
// the call. It returns false if the client has disconnected or the server is closed.
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

// await waits until c is closed or has a value. It returns false if the client disconnects
// or the server is closed before.
func await[T any](s *Server, r *http.Request, c <-chan T) bool {
	select {
	case <-c:
		return true
	case <-r.Context().Done():
	case <-s.done:
	}
	return false
}
