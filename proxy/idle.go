package proxy

import (
	"slices"
	"sync"
	"time"
)

const (
	// idleTime is how long a connection to HubSpot is kept while nobody uses
	// it: shorter than the edge's own, so that few requests meet a connection
	// that is being closed.
	idleTime = 60 * time.Second

	// maxIdle is how many are kept. With the two of net/http, fifty clients
	// open a new connection for nearly every request.
	maxIdle = 512

	// pollTime is how often idle connections are polled. Those that HubSpot has
	// closed are closed, too.
	pollTime = 4 * time.Second

	// restTime is how long a connection is left alone after an answer, as long as
	// there are others that have had that: what HubSpot may send without being
	// asked has time to arrive, and is seen when the connection is taken.
	restTime = 2 * time.Millisecond
)

// idle is connections to HubSpot that nobody uses. The zero value is ready. It
// is safe for concurrent use.
type idle struct {
	mu     sync.Mutex
	conns  []*conn     // the one that was used last at the end
	watch  *time.Timer // until the next poll; nil: there is none
	closed bool
}

// take returns a connection that is fit for use; nil if there is none.
func (i *idle) take() *conn {
	for {
		c := i.pop()
		if c == nil || c.fresh() {
			return c
		}
		c.leave()
	}
}

// pop removes the connection that was used last of those that have rested, or
// else the one that has rested longest.
func (i *idle) pop() *conn {
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.conns) == 0 {
		return nil
	}
	rested, at := time.Now().Add(-restTime), len(i.conns)-1
	for at > 0 && i.conns[at].since.After(rested) {
		at--
	}
	c := i.conns[at]
	i.conns = slices.Delete(i.conns, at, at+1)
	return c
}

// put takes a connection whose last answer has been read to its end.
func (i *idle) put(c *conn) {
	if !c.fresh() || !i.add(c) {
		c.leave()
	}
}

// add reports whether there is room for the connection.
func (i *idle) add(c *conn) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.closed || len(i.conns) == maxIdle {
		return false
	}
	c.since = time.Now()
	i.conns = append(i.conns, c)
	if i.watch == nil {
		i.watch = time.AfterFunc(pollTime, i.poll)
	}
	return true
}

// poll closes what has been idle for too long, and what HubSpot has closed.
func (i *idle) poll() {
	now := time.Now()
	old := i.removeOlder(now.Add(-pollTime))
	kept := old[:0]
	for _, c := range old {
		if now.Sub(c.since) < idleTime && c.fresh() {
			kept = append(kept, c)
		} else {
			c.leave()
		}
	}
	i.mu.Lock()
	closed := i.closed
	if !closed {
		i.conns = slices.Insert(i.conns, 0, kept...)
		i.watch = nil
		if len(i.conns) > 0 {
			i.watch = time.AfterFunc(pollTime, i.poll)
		}
	}
	i.mu.Unlock()
	if closed {
		leaveAll(kept)
	}
}

// removeOlder removes and returns the connections that have been idle since
// then, or for longer.
func (i *idle) removeOlder(then time.Time) []*conn {
	i.mu.Lock()
	defer i.mu.Unlock()
	n := slices.IndexFunc(i.conns, func(c *conn) bool { return c.since.After(then) })
	if n < 0 {
		n = len(i.conns)
	}
	old := slices.Clone(i.conns[:n])
	i.conns = slices.Delete(i.conns, 0, n)
	return old
}

// close closes all of them, and those that are still to come.
func (i *idle) close() {
	i.mu.Lock()
	conns := i.conns
	i.closed, i.conns = true, nil
	if i.watch != nil {
		i.watch.Stop()
		i.watch = nil
	}
	i.mu.Unlock()
	leaveAll(conns)
}

func leaveAll(conns []*conn) {
	for _, c := range conns {
		c.leave()
	}
}
