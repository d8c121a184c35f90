package upstream

import (
	"slices"
	"sync"
	"time"
)

const (
	// pollInterval is how often idle connections are polled. Those that HubSpot has
	// closed are closed, too.
	pollInterval = 4 * time.Second

	// restTime is how long a connection is left alone after an answer, as long as
	// there are others that have had that: what the server may send without
	// being asked has time to arrive, and is seen when the connection is taken.
	restTime = 2 * time.Millisecond
)

// pool has the connections that nobody uses. The zero value is ready. It
// is safe for concurrent use.
type pool struct {
	mu     sync.Mutex
	conns  []*conn     // the one that was used last at the end
	watch  *time.Timer // until the next poll; nil: there is none
	closed bool
}

// take returns a connection that is fit for use; nil if there is none.
func (p *pool) take() *conn {
	for {
		c := p.pop()
		if c == nil || c.fresh() {
			return c
		}
		c.leave()
	}
}

// pop removes the connection that was used last of those that have rested, or
// else the one that has rested longest.
func (p *pool) pop() *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.conns) == 0 {
		return nil
	}
	rested, at := time.Now().Add(-restTime), len(p.conns)-1
	for at > 0 && p.conns[at].since.After(rested) {
		at--
	}
	c := p.conns[at]
	p.conns = slices.Delete(p.conns, at, at+1)
	return c
}

// put takes a connection whose last answer has been read to its end. What the
// system has received since then is seen when the connection is taken, or polled.
func (p *pool) put(c *conn) {
	if !c.drained() || !p.add(c) {
		c.leave()
	}
}

// add reports whether there is room for the connection.
func (p *pool) add(c *conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.conns) == maxIdle {
		return false
	}
	c.since = time.Now()
	p.conns = append(p.conns, c)
	if p.watch == nil {
		p.watch = time.AfterFunc(pollInterval, p.poll)
	}
	return true
}

// poll closes what has been idle for too long, and what the server has closed.
func (p *pool) poll() {
	now := time.Now()
	old := p.removeOlder(now.Add(-pollInterval))
	kept := old[:0]
	for _, c := range old {
		if now.Sub(c.since) < idleTimeout && c.fresh() {
			kept = append(kept, c)
		} else {
			c.leave()
		}
	}
	p.mu.Lock()
	closed := p.closed
	if !closed {
		p.conns = slices.Insert(p.conns, 0, kept...)
		p.watch = nil
		if len(p.conns) > 0 {
			p.watch = time.AfterFunc(pollInterval, p.poll)
		}
	}
	p.mu.Unlock()
	if closed {
		leaveAll(kept)
	}
}

// removeOlder removes and returns the connections that have been idle since
// then, or for longer.
func (p *pool) removeOlder(then time.Time) []*conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := slices.IndexFunc(p.conns, func(c *conn) bool { return c.since.After(then) })
	if n < 0 {
		n = len(p.conns)
	}
	old := slices.Clone(p.conns[:n])
	p.conns = slices.Delete(p.conns, 0, n)
	return old
}

// close closes all of them, and those that are still to come.
func (p *pool) close() {
	p.mu.Lock()
	conns := p.conns
	p.closed, p.conns = true, nil
	if p.watch != nil {
		p.watch.Stop()
		p.watch = nil
	}
	p.mu.Unlock()
	leaveAll(conns)
}

func leaveAll(conns []*conn) {
	for _, c := range conns {
		c.leave()
	}
}
