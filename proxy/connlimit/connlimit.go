// Package connlimit limits how many connections of a listener are open at once, so that
// clients cannot use up the file descriptors or the memory.
package connlimit

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
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
	now   func() time.Time

	mu     sync.Mutex
	open   int
	bare   map[*conn]time.Time // connections without a request, and the time since when
	active map[*conn]time.Time // connections with a request, and the time since when
	closed bool

	waiting bool          // Accept waits for room
	change  chan struct{} // closed and replaced when something changes while waiting
}

// New limits the connections of a listener to most, which must be positive. To make room for
// a new connection, the Listener may close:
//   - a connection that is idle after a request, at once;
//   - a connection that has been open for grace without a complete request header;
//   - a connection whose request has been under way for busy, because the client does not
//     send the body or does not read the answer. A handler prevents this close by
//     calling [Keep]. If busy is zero, the Listener closes no connection with a request.
func New(listener net.Listener, most int, grace, busy time.Duration) *Listener {
	return &Listener{
		Listener: listener, most: most, grace: grace, busy: busy, now: time.Now,
		bare: make(map[*conn]time.Time), active: make(map[*conn]time.Time), change: make(chan struct{}),
	}
}

// Accept implements [net.Listener].
func (l *Listener) Accept() (net.Conn, error) {
	inner, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: inner, listener: l}
	for {
		admitted, wait, change := l.admit(c)
		if admitted {
			return c, nil
		}
		if change == nil {
			_ = inner.Close()
			return nil, net.ErrClosed
		}
		select {
		case <-change:
		case <-after(wait):
		}
	}
}

// after is like time.After, except that 0 means never.
func after(d time.Duration) <-chan time.Time {
	if d == 0 {
		return nil
	}
	return time.After(d)
}

// admit counts the connection. If the limit is reached, admit closes another connection, or
// reports that the caller must wait: until change is closed, or for the duration wait (0
// means no limit). A nil change means that the listener is closed.
func (l *Listener) admit(c *conn) (admitted bool, wait time.Duration, change <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false, 0, nil
	}
	now := l.now()
	if l.open >= l.most {
		victim, due := l.next(now)
		switch {
		case victim == nil:
			l.waiting = true
			return false, 0, l.change
		case due.After(now):
			l.waiting = true
			return false, due.Sub(now), l.change
		}
		l.release(victim)
		// Closing may take time, because TLS sends close_notify first.
		go func() { _ = victim.Conn.Close() }()
	}
	l.waiting = false
	l.open++
	l.bare[c] = now
	return true, 0, nil
}

// next returns the connection to close next, and the time from which it may be closed. It
// returns nil if none may be closed.
func (l *Listener) next(now time.Time) (victim *conn, due time.Time) {
	bare, since := longest(l.bare)
	bareDue := since.Add(l.grace)
	if bare != nil && !bareDue.After(now) {
		return bare, bareDue
	}
	active, since := longest(l.active)
	activeDue := since.Add(l.busy)
	if bare == nil || active != nil && activeDue.Before(bareDue) {
		return active, activeDue
	}
	return bare, bareDue
}

// longest returns the connection with the earliest time.
func longest(conns map[*conn]time.Time) (longest *conn, since time.Time) {
	for c, at := range conns {
		if longest == nil || at.Before(since) {
			longest, since = c, at
		}
	}
	return longest, since
}

// release removes a connection from the count. Only the first call has an effect. The caller
// holds l.mu.
func (l *Listener) release(c *conn) {
	if c.released {
		return
	}
	c.released = true
	l.open--
	delete(l.bare, c)
	delete(l.active, c)
	l.changed()
}

// changed wakes a waiting Accept. The caller holds l.mu.
func (l *Listener) changed() {
	if !l.waiting {
		return
	}
	close(l.change)
	l.change = make(chan struct{})
}

// ConnState is the function for the field ConnState of [http.Server].
func (l *Listener) ConnState(nc net.Conn, state http.ConnState) {
	c := connOf(nc)
	if c == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case c.released:
	case state == http.StateIdle:
		delete(l.active, c)
		l.bare[c] = l.now().Add(-l.grace) // an idle connection may be closed at once
		l.changed()
	case state == http.StateActive:
		delete(l.bare, c)
		if l.busy > 0 {
			l.active[c] = l.now()
			l.changed()
		}
	case state == http.StateHijacked:
		delete(l.bare, c)
		delete(l.active, c)
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
	if c == nil {
		return
	}
	c.listener.mu.Lock()
	defer c.listener.mu.Unlock()
	delete(c.listener.active, c)
}

// connOf returns the Listener's connection for a connection of the server, which may be TLS
// over it. It returns nil if there is none.
func connOf(nc net.Conn) *conn {
	if t, ok := nc.(interface{ NetConn() net.Conn }); ok {
		nc = t.NetConn() // of TLS
	}
	c, _ := nc.(*conn)
	return c
}

// Open returns the number of open connections.
func (l *Listener) Open() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open
}

// Close implements [net.Listener]. It does not close open connections.
func (l *Listener) Close() error {
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		l.changed()
	}
	l.mu.Unlock()
	return l.Listener.Close()
}

// conn is a connection that is counted until it is closed. It has those methods of
// net.TCPConn that net/http's server uses.
type conn struct {
	net.Conn
	listener *Listener
	released bool // guarded by listener.mu
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

// ReadFrom is like net.TCPConn's, which copies without a buffer where the system can.
func (c *conn) ReadFrom(r io.Reader) (int64, error) { return io.Copy(c.Conn, r) }
