// Package connlimit limits how many connections of a listener are open at once,
// so that its clients cannot take all file descriptors, or memory without end.
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

// A Listener has at most a number of connections open at once, and one more
// that waits for its turn; the others wait in the system's queue. To let a
// connection in, it closes the one that has been without a request for longest,
// or else the one whose request has been under way for longest.
//
// The server must report to [Listener.ConnState], and use
// [Listener.ConnContext]. A Listener is safe for concurrent use.
type Listener struct {
	net.Listener
	most  int
	grace time.Duration
	busy  time.Duration
	now   func() time.Time

	mu     sync.Mutex
	open   int
	bare   map[*conn]time.Time // connections without a request, and since when
	active map[*conn]time.Time // connections with a request, and since when
	closed bool

	waiting bool          // a connection waits to be let in
	change  chan struct{} // closed, and made anew, when something changes meanwhile
}

// New limits the connections of a listener to most, which must be positive. A
// new connection is closed for another one once it has been open for grace
// without a whole request header; one that is idle after a request, at once. A
// connection whose request has been under way for busy, because the client does
// not send the body or does not read the answer, is closed for another one too,
// unless the request's handler has called [Keep]. A busy of zero means never.
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

// after is time.After, but for 0, which is for ever.
func after(d time.Duration) <-chan time.Time {
	if d == 0 {
		return nil
	}
	return time.After(d)
}

// admit counts the connection, if need be in the place of another one. Else it
// returns for what to wait, and how long at most (0 is for ever); there is
// nothing to wait for if the listener is closed.
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
		// Closing may take a while, where it sends something first.
		go func() { _ = victim.Conn.Close() }()
	}
	l.waiting = false
	l.open++
	l.bare[c] = now
	return true, 0, nil
}

// next returns the connection to close for another one, and from when on that
// may be done; nil if all are to be kept.
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

// release takes a connection out of the count, once. l.mu is held.
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

// changed wakes who waits. l.mu is held.
func (l *Listener) changed() {
	if !l.waiting {
		return // as after most requests
	}
	close(l.change)
	l.change = make(chan struct{})
}

// ConnState is for [http.Server]'s field of that name.
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
		l.bare[c] = l.now().Add(-l.grace) // it has had its time
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

// ConnContext is for [http.Server]'s field of that name.
func (l *Listener) ConnContext(ctx context.Context, nc net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, connOf(nc))
}

// Keep keeps the connection of a request from being closed for another one until
// the request has ended. ctx is the request's; without a [Listener] in it, Keep
// does nothing.
func Keep(ctx context.Context) {
	c, _ := ctx.Value(connKey{}).(*conn)
	if c == nil {
		return
	}
	c.listener.mu.Lock()
	defer c.listener.mu.Unlock()
	delete(c.listener.active, c)
}

// connOf returns the listener's connection that a server's connection is, or is
// inside of; nil if there is none.
func connOf(nc net.Conn) *conn {
	if t, ok := nc.(interface{ NetConn() net.Conn }); ok {
		nc = t.NetConn() // of TLS
	}
	c, _ := nc.(*conn)
	return c
}

// Open returns how many connections are open.
func (l *Listener) Open() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open
}

// Close implements [net.Listener]. Connections that are open stay so.
func (l *Listener) Close() error {
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		l.changed()
	}
	l.mu.Unlock()
	return l.Listener.Close()
}

// conn is a connection that is counted until it is closed. It has what
// net/http's server uses of a TCP connection.
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

// CloseWrite is net.TCPConn's: with it, a client reads an answer that was given
// before its request was read to the end.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// ReadFrom is net.TCPConn's.
func (c *conn) ReadFrom(r io.Reader) (int64, error) { return io.Copy(c.Conn, r) }
