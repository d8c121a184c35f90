package hubspottest

import (
	"context"
	"errors"
	"slices"
)

// counts has the server's counters. Server.mu guards it.
type counts struct {
	requests     int
	unauthorized int
	cancelled    int
	tokenCalls   int
	violations   []string
	clientKeys   int // the number of violations that are client keys

	changed chan struct{} // closed at the next change; nil means that nothing waits
}

// change calls do, which changes the counters, and wakes all waiting calls of Until.
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

// Until waits until condition returns true, and then returns nil. Until calls condition
// whenever one of the server's counters has changed, so that tests need not sleep:
//
//	err := hub.Until(ctx, func() bool { return hub.Cancelled() == 1 })
//
// Until returns ctx's error if ctx ends first, and another error if the server is closed.
func (s *Server) Until(ctx context.Context, condition func() bool) error {
	for {
		// The channel is read before the condition is checked, so that no change in
		// between is missed.
		changed := s.nextChange()
		if condition() {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-s.done:
			return errors.New("hubspottest: the server was closed")
		}
	}
}

// read returns what get returns, which may read everything that Server.mu guards.
func read[T any](s *Server, get func() T) T {
	s.mu.Lock()
	defer s.mu.Unlock()
	return get()
}

// Requests returns the number of API requests received so far. Requests that were
// answered 401 and requests for /oauth/… count; calls of the token endpoint and of
// /fake/expire/ do not. A request counts as soon as its header has arrived.
func (s *Server) Requests() int { return read(s, func() int { return s.counts.requests }) }

// RequestsFor returns how many of [Server.Requests] had a credential of the portal, valid
// or not.
func (s *Server) RequestsFor(portal string) int {
	return read(s, func() int { return s.ledger.portal(portal).requests })
}

// Unauthorized returns the number of 401s that the API has answered. A 401 counts just
// before it is sent.
func (s *Server) Unauthorized() int { return read(s, func() int { return s.counts.unauthorized }) }

// Cancelled returns the number of requests for /fake/hang and /fake/events whose client
// disconnected before the end. The server notices that a little later, so wait for it with
// [Server.Until].
func (s *Server) Cancelled() int { return read(s, func() int { return s.counts.cancelled }) }

// TokenCalls returns the number of calls of the token endpoint with a refresh token of the
// portal, valid or not. Calls that failed and calls that hang count. A call counts as soon
// as its body has been read.
func (s *Server) TokenCalls(portal string) int {
	return read(s, func() int { return s.ledger.portal(portal).tokenCalls })
}

// TokenCallsTotal returns the number of all calls of the token endpoint, including those
// with an unknown refresh token or with none.
func (s *Server) TokenCallsTotal() int { return read(s, func() int { return s.counts.tokenCalls }) }

// Violations returns descriptions of the requests that no well-behaved client sends, in
// the order of their arrival: requests with an Authorization header and a hapikey, with
// several of either, or with a client key, and token calls with a secret in the query or
// with an Authorization header. No description contains a credential.
func (s *Server) Violations() []string {
	return read(s, func() []string { return slices.Clone(s.counts.violations) })
}
