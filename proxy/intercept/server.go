package intercept

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// handshakeTimeout limits the time from the answer to a CONNECT request until the end of the
// TLS handshake.
const handshakeTimeout = 10 * time.Second

// A Server serves the requests inside tunnels. It is safe for concurrent use.
type Server struct {
	inside   *http.Server
	tls      *tls.Config
	conns    chan net.Conn // after their handshake
	open     atomic.Int64
	serving  sync.WaitGroup // the goroutine that takes conns
	shutdown context.Context
	cancel   context.CancelFunc // of shutdown

	mu         sync.Mutex // no handshake begins while shutdown begins
	handshakes sync.WaitGroup
}

// NewServer returns a server that uses the authority's certificates. inside serves the
// requests, and must not be used for anything else. Its ConnState and ConnContext get the
// connection that was passed to [Server.Serve]. The caller must call [Server.Close].
func NewServer(authority *Authority, inside *http.Server) *Server {
	s := &Server{inside: inside, conns: make(chan net.Conn)}
	s.shutdown, s.cancel = context.WithCancel(context.Background())
	s.tls = &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"},
		// In a resumed session no certificate is requested, so the server's name would
		// not be checked.
		SessionTicketsDisabled: true,
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			name := hello.Conn.(*conn).tunnel.Name
			if !strings.EqualFold(hello.ServerName, name) {
				return nil, nil // crypto/tls then sends the alert unrecognized_name
			}
			return authority.Certificate(name)
		},
	}
	inside.ConnContext = withTunnel(inside.ConnContext)
	if state := inside.ConnState; state != nil {
		inside.ConnState = func(c net.Conn, now http.ConnState) { state(tunnelOf(c).Conn, now) }
	}
	s.serving.Go(func() { _ = inside.Serve(listener{s}) })
	return s
}

// withTunnel adds the connection's tunnel to the context of its requests.
func withTunnel(next func(context.Context, net.Conn) context.Context) func(context.Context, net.Conn) context.Context {
	return func(ctx context.Context, c net.Conn) context.Context {
		if next != nil {
			ctx = next(ctx, tunnelOf(c).Conn)
		}
		return context.WithValue(ctx, tunnelKey{}, tunnelOf(c).tunnel)
	}
}

// tunnelOf returns the tunnel of a connection of the server inside.
func tunnelOf(c net.Conn) *conn { return c.(*tls.Conn).NetConn().(*conn) }

// Open returns the number of open tunnels.
func (s *Server) Open() int64 { return s.open.Load() }

// Serve answers a CONNECT request on its connection, and returns when the TLS handshake
// inside the tunnel has ended. From then on the Server owns the connection; if Serve returns
// an error, it has closed the connection. ahead has the bytes after the request that were
// already read from the connection.
func (s *Server) Serve(raw net.Conn, ahead []byte, tunnel Tunnel) error {
	c := &conn{Conn: raw, ahead: ahead, tunnel: &tunnel, open: &s.open}
	s.open.Add(1)
	if !s.begin() {
		_ = c.Close()
		return errClosed
	}
	defer s.handshakes.Done()
	ended := tls.Server(c, s.tls)
	if err := s.shake(c, ended); err != nil {
		_ = c.Close()
		return err
	}
	select {
	case s.conns <- ended:
		return nil
	case <-s.shutdown.Done():
		_ = c.Close()
		return errClosed
	}
}

var errClosed = errors.New("the proxy is shutting down")

// begin counts a handshake. It fails if the server is shutting down.
func (s *Server) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shutdown.Err() != nil {
		return false
	}
	s.handshakes.Add(1)
	return true
}

// shake answers the CONNECT request with 200, and does the TLS handshake.
func (s *Server) shake(c *conn, ended *tls.Conn) error {
	ctx, cancel := context.WithTimeout(s.shutdown, handshakeTimeout)
	defer cancel()
	deadline, _ := ctx.Deadline()
	_ = c.SetDeadline(deadline)
	if _, err := io.WriteString(c, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		return fmt.Errorf("answer CONNECT: %w", err)
	}
	if err := ended.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS handshake for %s: %w", c.tunnel.Name, err)
	}
	return c.SetDeadline(time.Time{})
}

// Shutdown closes idle tunnels and tunnels whose handshake is in progress. Shutdown waits
// until the requests in the other tunnels have ended. If ctx ends first, Shutdown returns
// ctx's error. From the call of Shutdown on, Serve opens no more tunnels.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stop()
	return s.inside.Shutdown(ctx)
}

// Close closes all tunnels.
func (s *Server) Close() {
	s.stop()
	_ = s.inside.Close()
	s.serving.Wait()
}

// stop ends the handshakes.
func (s *Server) stop() {
	s.mu.Lock()
	s.cancel()
	s.mu.Unlock()
	s.handshakes.Wait()
}

// conn is a client's connection after the CONNECT request.
type conn struct {
	net.Conn
	ahead  []byte // bytes already read from Conn, which Read returns first
	tunnel *Tunnel
	open   *atomic.Int64
	closed sync.Once
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	if len(c.ahead) > 0 {
		n := copy(p, c.ahead)
		c.ahead = c.ahead[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}

// NetConn returns the connection that the tunnel is on.
func (c *conn) NetConn() net.Conn { return c.Conn }

// Close implements net.Conn.
func (c *conn) Close() error {
	c.closed.Do(func() { c.open.Add(-1) })
	return c.Conn.Close()
}

// listener is the net.Listener of the server inside. Its connections have completed their
// handshake.
type listener struct{ *Server }

// Accept implements net.Listener.
func (l listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.shutdown.Done():
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l listener) Close() error {
	l.cancel()
	return nil
}

// Addr implements net.Listener.
func (l listener) Addr() net.Addr { return &net.UnixAddr{Name: "tunnel", Net: "tunnel"} }
