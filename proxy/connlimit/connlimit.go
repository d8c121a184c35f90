// Package connlimit limits how many connections of a listener are open at once, so that
// clients cannot use up the file descriptors or the memory.
package connlimit

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// A Listener limits its open connections. When the limit is reached, the Listener holds one
// new connection until there is room. Further connections wait in the system's accept queue.
// To make room, the Listener closes the connection that has had no request for the longest
// time. If no such connection may be closed, the Listener closes the connection whose request
// has been under way for the longest time. [New] says when a connection may be closed.
//
// Set [Listener.ConnState] and [Listener.ConnContext] in the http.Server. A Listener is safe
// for concurrent use.
type Listener struct {
	net.Listener
	most  int
	grace time.Duration
	busy  time.Duration
	began time.Time // when the clock of now began

	waiting atomic.Int32 // how many calls of Accept need room
	mu      sync.Mutex
	change  sync.Cond // of mu; signals that there may be room, or that the Listener is closed
	open    map[*conn]struct{}
	closed  bool
}

// never is the due time of a connection that may not be closed.
const never = math.MaxInt64

// New limits the connections of a listener to most, which must be positive. To make room for
// a new connection, the Listener may close:
//   - a connection that is idle after a request, at once;
//   - a connection that has been open for grace without a complete request header;
//   - a connection whose request has been under way for busy, because the client does not
//     send the body or does not read the answer. A handler prevents this close by
//     calling [Keep]. If busy is zero, the Listener closes no connection with a request.
func New(listener net.Listener, most int, grace, busy time.Duration) *Listener {
	l := &Listener{
		Listener: listener, most: most, grace: grace, busy: busy,
		began: time.Now(), open: make(map[*conn]struct{}),
	}
	l.change.L = &l.mu
	return l
}

// now returns the time since the Listener began.
func (l *Listener) now() time.Duration { return time.Since(l.began) }

// Accept implements [net.Listener].
func (l *Listener) Accept() (net.Conn, error) {
	inner, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: inner, listener: l}
	if !l.admit(c) {
		_ = inner.Close()
		return nil, net.ErrClosed
	}
	return c, nil
}

// admit counts the connection as soon as there is room. It reports false if the Listener is
// closed.
func (l *Listener) admit(c *conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.open) >= l.most && !l.closed {
		l.makeRoom()
	}
	if l.closed {
		return false
	}
	c.bareDue.Store(int64(l.now() + l.grace))
	c.activeDue.Store(never)
	l.open[c] = struct{}{}
	return true
}

// makeRoom closes a connection, or waits until there may be room. The caller holds l.mu.
func (l *Listener) makeRoom() {
	l.waiting.Add(1) // before next reads due times, so that wake misses no later change
	defer l.waiting.Add(-1)
	now := l.now()
	victim, due := l.next(now)
	switch {
	case victim == nil:
	case due > now:
		defer time.AfterFunc(due-now, l.broadcast).Stop()
	default:
		l.release(victim)
		// Closing may take time, because TLS sends close_notify first.
		go func() { _ = victim.Conn.Close() }()
		return
	}
	l.change.Wait()
}

// wake lets makeRoom choose again, because a due time has changed.
func (l *Listener) wake() {
	if l.waiting.Load() > 0 {
		l.broadcast()
	}
}

func (l *Listener) broadcast() {
	l.mu.Lock() // so that the signal cannot come before Wait
	defer l.mu.Unlock()
	l.change.Broadcast()
}

// next returns the connection to close next, and the time from which it may be closed. It
// returns nil if none may be closed.
func (l *Listener) next(now time.Duration) (victim *conn, due time.Duration) {
	var bare, active *conn
	bareDue, activeDue := time.Duration(never), time.Duration(never)
	for c := range l.open {
		if at := time.Duration(c.bareDue.Load()); at < bareDue {
			bare, bareDue = c, at
		}
		if at := time.Duration(c.activeDue.Load()); at < activeDue {
			active, activeDue = c, at
		}
	}
	if bare == nil || bareDue > now && activeDue < bareDue {
		return active, activeDue
	}
	return bare, bareDue
}

// release removes a connection from the count. The caller holds l.mu.
func (l *Listener) release(c *conn) {
	delete(l.open, c)
	l.change.Broadcast()
}

// ConnState is the function for the field ConnState of [http.Server].
func (l *Listener) ConnState(nc net.Conn, state http.ConnState) {
	c := connOf(nc)
	if c == nil {
		return
	}
	switch state {
	case http.StateIdle:
		c.setDue(l.now(), never) // an idle connection may be closed at once
	case http.StateActive:
		due := time.Duration(never)
		if l.busy > 0 {
			due = l.now() + l.busy
		}
		c.setDue(never, due)
	case http.StateHijacked:
		c.setDue(never, never)
	}
}

type connKey struct{}

// ConnContext is the function for the field ConnContext of [http.Server].
func (l *Listener) ConnContext(ctx context.Context, nc net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, connOf(nc))
}

// Keep protects the connection of a request: the Listener does not close it to make room
// until the request has ended. ctx is the request's context. Keep does nothing if the
// connection does not come from a [Listener].
func Keep(ctx context.Context) {
	c, _ := ctx.Value(connKey{}).(*conn)
	if c != nil {
		c.activeDue.Store(never)
	}
}

// connOf returns the Listener's connection for a connection of the server, which may be TLS
// over it. It returns nil if there is none.
func connOf(nc net.Conn) *conn {
	if t, ok := nc.(*tls.Conn); ok {
		nc = t.NetConn()
	}
	c, _ := nc.(*conn)
	return c
}

// Close implements [net.Listener]. It does not close open connections.
func (l *Listener) Close() error {
	l.mu.Lock()
	l.closed = true
	l.change.Broadcast()
	l.mu.Unlock()
	return l.Listener.Close()
}

// conn is a connection that is counted until it is closed. It has those methods of
// net.TCPConn that net/http's server uses.
type conn struct {
	net.Conn
	listener *Listener

	// When the connection may be closed, on the clock of listener.now: bareDue while it
	// has no request, activeDue while it has one. The other one is never. They are
	// atomic, because a lock would be shared by all requests.
	bareDue, activeDue atomic.Int64
}

// setDue sets when the connection may be closed. The caller does not hold listener.mu.
func (c *conn) setDue(bare, active time.Duration) {
	c.bareDue.Store(int64(bare))
	c.activeDue.Store(int64(active))
	c.listener.wake()
}

// Close implements [net.Conn].
func (c *conn) Close() error {
	c.listener.mu.Lock()
	c.listener.release(c)
	c.listener.mu.Unlock()
	return c.Conn.Close()
}

// CloseWrite is like net.TCPConn's. net/http's server needs it so that a client can read an
// answer that was sent before the request was read completely.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// NetConn returns the connection that is counted.
func (c *conn) NetConn() net.Conn { return c.Conn }

// ReadFrom is like net.TCPConn's, which copies without a buffer where the system can.
func (c *conn) ReadFrom(r io.Reader) (int64, error) { return io.Copy(c.Conn, r) }
