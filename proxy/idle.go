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
)

// idle is connections to HubSpot that nobody uses. The zero value is ready. It
// is safe for concurrent use.
type idle struct {
	mu     sync.Mutex
	conns  []*conn     // the one that was used last at the end
	watch  *time.Timer // until the next one has been idle for too long; nil: there is none
	closed bool
}

// take returns the connection that was used last of those that are fit for use;
// nil if there is none.
func (i *idle) take() *conn {
	for {
		c := i.pop()
		if c == nil || c.fresh() {
			return c
		}
		_ = c.Close()
	}
}

func (i *idle) pop() *conn {
	i.mu.Lock()
	defer i.mu.Unlock()
	last := len(i.conns) - 1
	if last < 0 {
		return nil
	}
	c := i.conns[last]
	i.conns[last] = nil
	i.conns = i.conns[:last]
	return c
}

// put takes a connection whose last answer has been read to its end.
func (i *idle) put(c *conn) {
	c.since = time.Now()
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.closed || len(i.conns) == maxIdle {
		_ = c.Close()
		return
	}
	i.conns = append(i.conns, c)
	if i.watch == nil {
		i.watch = time.AfterFunc(idleTime, i.expire)
	}
}

// expire closes what has been idle for too long.
func (i *idle) expire() {
	i.mu.Lock()
	defer i.mu.Unlock()
	begin := time.Now().Add(-idleTime)
	used := slices.IndexFunc(i.conns, func(c *conn) bool { return c.since.After(begin) })
	if used < 0 {
		used = len(i.conns)
	}
	for _, c := range i.conns[:used] {
		_ = c.Close()
	}
	i.conns = slices.Delete(i.conns, 0, used)
	i.watch = nil
	if len(i.conns) > 0 {
		i.watch = time.AfterFunc(i.conns[0].since.Sub(begin), i.expire)
	}
}

// close closes all of them, and those that are still to come.
func (i *idle) close() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.closed = true
	for _, c := range i.conns {
		_ = c.Close()
	}
	i.conns = nil
	if i.watch != nil {
		i.watch.Stop()
		i.watch = nil
	}
}
