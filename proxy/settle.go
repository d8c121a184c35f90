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

	mu      sync.Mutex
	changed *sync.Cond
	reading bool // somebody waits for bytes
	closed  bool
	unasked bool // a request has got the connection, and was not written yet
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
		return s, nil
	}
}

type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// Read fails if an answer comes before its request.
func (s *settledConn) Read(p []byte) (int, error) {
	s.set(&s.reading, true)
	n, err := s.Conn.Read(p)
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

// settling returns what makes a request wait for its connection to be settled,
// if that had other requests before. Over HTTP/2, answers name theirs.
func settling(mayBeHTTP2 bool) func(httptrace.GotConnInfo) {
	return func(got httptrace.GotConnInfo) {
		conn := got.Conn
		if secure, is := conn.(*tls.Conn); is {
			if mayBeHTTP2 && secure.ConnectionState().NegotiatedProtocol == "h2" {
				return
			}
			conn = secure.NetConn()
		}
		if s, is := conn.(*settledConn); is && got.Reused {
			s.settle()
		}
	}
}
