package upstream

import (
	"slices"
	"sync"
	"time"
)

const (
	// pollInterval is how often idle connections are polled, to close those that
	// HubSpot has closed.
	pollInterval = 4 * time.Second

	// restTime is how long the pool leaves a connection unused after an answer, if it
	// has another one to use instead. Bytes that the server may send without a
	// request then have time to arrive, and take sees them.
	restTime = 2 * time.Millisecond
)

// pool holds the idle connections. The zero value is an empty pool. A pool is safe
// for concurrent use.
type pool struct {
	mu        sync.Mutex
	conns     []*conn     // in the order of idleSince
	pollTimer *time.Timer // calls poll; nil if the pool is empty
	closed    bool
}

// take removes and returns an idle connection that can be used again, or nil if there
// is none. It closes the unusable ones that it finds.
func (p *pool) take() *conn {
	for {
		c := p.pop()
		if c == nil || c.reusable() {
			return c
		}
		c.shutdown()
	}
}

// pop removes and returns the most recently used connection that has been idle for
// restTime. If there is none, pop takes the one that has been idle longest.
func (p *pool) pop() *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.conns) == 0 {
		return nil
	}
	rested, at := time.Now().Add(-restTime), len(p.conns)-1
	for at > 0 && p.conns[at].idleSince.After(rested) {
		at--
	}
	c := p.conns[at]
	p.conns = slices.Delete(p.conns, at, at+1)
	return c
}

// put adds a connection whose last answer was read to its end. put checks only bytes
// that were read already; take and poll check what arrives later.
func (p *pool) put(c *conn) {
	if !c.nothingBuffered() || !p.add(c) {
		c.shutdown()
	}
}

// add adds the connection, or reports false if the pool is full or closed.
func (p *pool) add(c *conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.conns) == maxIdle {
		return false
	}
	c.idleSince = time.Now()
	p.conns = append(p.conns, c)
	if p.pollTimer == nil {
		p.pollTimer = time.AfterFunc(pollInterval, p.poll)
	}
	return true
}

// poll closes connections that have been idle for idleTimeout, and those that the
// server has closed.
func (p *pool) poll() {
	now := time.Now()
	old := p.removeOlder(now.Add(-pollInterval))
	kept := old[:0]
	for _, c := range old {
		if now.Sub(c.idleSince) < idleTimeout && c.reusable() {
			kept = append(kept, c)
		} else {
			c.shutdown()
		}
	}
	p.mu.Lock()
	closed := p.closed
	if !closed {
		p.conns = slices.Insert(p.conns, 0, kept...)
		p.pollTimer = nil
		if len(p.conns) > 0 {
			p.pollTimer = time.AfterFunc(pollInterval, p.poll)
		}
	}
	p.mu.Unlock()
	if closed {
		shutdownAll(kept)
	}
}

// removeOlder removes and returns the connections that became idle at that time or
// before.
func (p *pool) removeOlder(then time.Time) []*conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := slices.IndexFunc(p.conns, func(c *conn) bool { return c.idleSince.After(then) })
	if n < 0 {
		n = len(p.conns)
	}
	old := slices.Clone(p.conns[:n])
	p.conns = slices.Delete(p.conns, 0, n)
	return old
}

// close closes all idle connections. After close, put closes each connection it gets.
func (p *pool) close() {
	p.mu.Lock()
	conns := p.conns
	p.closed, p.conns = true, nil
	if p.pollTimer != nil {
		p.pollTimer.Stop()
		p.pollTimer = nil
	}
	p.mu.Unlock()
	shutdownAll(conns)
}

func shutdownAll(conns []*conn) {
	for _, c := range conns {
		c.shutdown()
	}
}
