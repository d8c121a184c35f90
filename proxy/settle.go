package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http/httptrace"
	"sync"
)

// settledConn is a connection to HubSpot that knows whether somebody waits for
// bytes on it, who has then read all that came before.
//
// What HubSpot sends beyond an answer must not be taken for the answer to the
// next request, which may be another portal's. net/http lets go of a connection
// as soon as an answer has been read, and looks only then whether more has
// come: a request that gets the connection in between would be answered with
// that.
type settledConn struct {
	net.Conn
	receiver

	mu      sync.Mutex
	changed *sync.Cond
	reading bool // somebody waits for bytes, and the system has none
	closed  bool
	unasked bool    // a request has got the connection, and was not written yet
	answer  *answer // whose body is being read; nil: none
}

var errUnasked = errors.New("HubSpot answers what it was not asked")

// settledDial makes dial return connections that settling can wait for.
func settledDial(dial dialFunc) dialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		s := &settledConn{Conn: conn}
		s.changed = sync.NewCond(&s.mu)
		s.receiver = newReceiver(conn, func() { s.set(&s.reading, true) })
		return s, nil
	}
}

type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// Read fails if an answer comes before its request. What the client has not got
// of the answer that is being read does not wait with it.
func (s *settledConn) Read(p []byte) (int, error) {
	if a := s.answering(); a != nil {
		a.flush()
	}
	n, err := s.receive(p)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reading = false
	if n > 0 && s.unasked {
		return 0, errUnasked
	}
	return n, err
}

func (s *settledConn) Write(p []byte) (int, error) {
	s.set(&s.unasked, false)
	return s.Conn.Write(p)
}

func (s *settledConn) Close() error {
	s.set(&s.closed, true)
	return s.Conn.Close()
}

func (s *settledConn) set(what *bool, value bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*what = value
	s.changed.Broadcast()
}

// settle waits until all that came has been read, or the connection was closed
// because of it.
func (s *settledConn) settle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.reading && !s.closed {
		s.changed.Wait()
	}
	s.unasked = true
}

// answering returns whose body is being read, if any is.
func (s *settledConn) answering() *answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.answer
}

// answers notes whose body is read from now on; nil: none.
func (s *settledConn) answers(a *answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = a
}

// trace follows the connection that the request gets, until its answer has been
// read.
func (c *call) trace(trace *httptrace.ClientTrace, mayBeHTTP2 bool) {
	trace.GotConn = func(got httptrace.GotConnInfo) {
		if c.conn = settled(got.Conn, mayBeHTTP2); c.conn != nil && got.Reused {
			c.conn.settle()
		}
	}
	// This comes before anything is read for the next request.
	trace.PutIdleConn = func(error) {
		if c.conn != nil {
			c.conn.answers(nil)
			c.conn = nil
		}
	}
}

// settled returns the settledConn below conn, nil if it has HTTP/2, where
// requests share a connection and answers name theirs.
func settled(conn net.Conn, mayBeHTTP2 bool) *settledConn {
	for {
		secure, is := conn.(*tls.Conn)
		if !is {
			s, _ := conn.(*settledConn)
			return s
		}
		if mayBeHTTP2 && secure.ConnectionState().NegotiatedProtocol == "h2" {
			return nil
		}
		conn = secure.NetConn()
	}
}
