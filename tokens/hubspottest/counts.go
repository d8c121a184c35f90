package hubspottest

import "slices"

// counts is what the server has seen. Server.mu guards it.
type counts struct {
	requests     int
	unauthorized int
	cancelled    int
	tokenCalls   int
	violations   []string
	clientKeys   int // of the violations

	changed chan struct{} // closed at the next change; nil: nobody waits
}

// change lets do change the counters, and wakes the waiters of Until.
func (s *Server) change(do func(*counts)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	do(&s.counts)
	if s.counts.changed != nil {
		close(s.counts.changed)
		s.counts.changed = nil
	}
}

// nextChange returns a channel that is closed at the next change.
func (s *Server) nextChange() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.counts.changed == nil {
		s.counts.changed = make(chan struct{})
	}
	return s.counts.changed
}

// Requests counts the API requests received so far: those answered 401 and
// those for /oauth/… paths other than the token endpoint too, calls of the
// token endpoint and of /fake/expire/ not. A request counts once its head has
// arrived.
func (s *Server) Requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts.requests
}

// RequestsFor counts, of [Server.Requests], those with a credential of the
// portal, be it live or dead.
func (s *Server) RequestsFor(portal string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.ledger.portals[portal]; p != nil {
		return p.requests
	}
	return 0
}

// Unauthorized counts the 401s that the API has answered. One counts just
// before it is sent.
func (s *Server) Unauthorized() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts.unauthorized
}

// Cancelled counts the requests for /fake/hang and /fake/events whose client
// left before the end. See [Server.Until] for waiting: the server notices a
// little after the client has left.
func (s *Server) Cancelled() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts.cancelled
}

// TokenCalls counts the calls of the token endpoint with a refresh token of
// the portal, be it live or ended: also those that failed, and those that
// hang. A call counts once its body has been read.
func (s *Server) TokenCalls(portal string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.ledger.portals[portal]; p != nil {
		return p.tokenCalls
	}
	return 0
}

// TokenCallsTotal counts all calls of the token endpoint, those with an
// unknown refresh token or none too.
func (s *Server) TokenCallsTotal() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts.tokenCalls
}

// Violations lists, in the order of their arrival, the requests that no
// well-behaved client sends: an Authorization header and a hapikey at once,
// several of either, and at the token endpoint a secret in the query or an
// Authorization header. Each entry says what was wrong; none holds the
// credential. It is empty if there was none.
func (s *Server) Violations() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.counts.violations)
}
