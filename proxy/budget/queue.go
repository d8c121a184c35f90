package budget

import (
	"container/list"
	"slices"
	"sort"
	"time"
)

// queue is the calls that wait for turns of one window. Turns go round the clients.
// The window's lock guards it.
type queue struct {
	clients map[string]*client
	round   []*client // those with calls that wait; the first one, which has had its last turn before the others, has the next
	served  uint64    // turns so far
	waiting int
}

// client is a client's calls that wait, and how many turns it has had of late.
type client struct {
	name     string
	calls    list.List // of *waiter
	reserved int       // turns of later than now that were reserved for them
	served   uint64    // the number of its last turn

	interval int64 // the number of the current interval
	turns    [2]int
}

// waiter is one call that waits.
type waiter struct {
	client   *client
	element  *list.Element // of client.calls; nil means that it has left
	deadline time.Duration
	answer   chan result // has room for one
}

// result is the outcome of waiting.
type result struct {
	turn    Turn
	refused *RefusedError
}

// of returns the client of that name.
func (q *queue) of(name string) *client {
	c := q.clients[name]
	if c == nil {
		c = &client{name: name}
		if q.clients == nil {
			q.clients = make(map[string]*client)
		}
		q.clients[name] = c
	}
	return c
}

// count counts a turn that the client has had.
func (q *queue) count(name string, now, interval time.Duration) {
	c := q.of(name)
	c.rotate(now, interval)
	c.turns[0]++
}

func (c *client) rotate(now, interval time.Duration) {
	switch number := int64(now / interval); number - c.interval {
	case 0:
		return
	case 1:
		c.interval, c.turns = number, [2]int{0, c.turns[0]}
	default:
		c.interval, c.turns = number, [2]int{}
	}
}

// light reports whether the client has had fewer turns of late than the others in the
// mean, or next to none.
func (q *queue) light(c *client, now, interval time.Duration, limit int) bool {
	turns, active := 0, 0
	for _, other := range q.clients {
		if other.rotate(now, interval); other.lately() > 0 {
			active++
			turns += other.lately()
		}
	}
	return c.lately()*active < turns || c.lately() < limit/20
}

// lately returns how many turns the client has had within one to two intervals.
func (c *client) lately() int { return c.turns[0] + c.turns[1] }

// enter lets a call wait, behind those of its client or before them.
func (q *queue) enter(name string, first bool, deadline time.Duration) *waiter {
	c := q.of(name)
	w := &waiter{client: c, deadline: deadline, answer: make(chan result, 1)}
	if c.calls.Len() == 0 {
		at := sort.Search(len(q.round), func(i int) bool { return q.round[i].served > c.served })
		q.round = slices.Insert(q.round, at, c)
	}
	if first {
		w.element = c.calls.PushFront(w)
	} else {
		w.element = c.calls.PushBack(w)
	}
	q.waiting++
	return w
}

// leave takes a call out of the queue. It reports false if that is out already.
func (q *queue) leave(w *waiter) bool {
	if w.element == nil {
		return false
	}
	c := w.client
	c.calls.Remove(w.element)
	w.element = nil
	q.waiting--
	if c.calls.Len() == 0 {
		q.drop(c)
	}
	return true
}

// drop takes a client out of the round.
func (q *queue) drop(c *client) {
	q.round = slices.DeleteFunc(q.round, func(other *client) bool { return other == c })
}

// next returns the call that has the next turn, whose client goes to the end of the
// round. It returns nil if no call waits.
func (q *queue) next() *waiter {
	if len(q.round) == 0 {
		return nil
	}
	c := q.round[0]
	q.drop(c)
	q.round = append(q.round, c)
	q.served++
	c.served = q.served
	w := c.calls.Front().Value.(*waiter)
	q.leave(w)
	return w
}

// heads returns the next n calls that no turn is reserved for.
func (q *queue) heads(n int) (heads []*waiter) {
	elements := make([]*list.Element, len(q.round))
	for i, c := range q.round {
		elements[i] = c.calls.Front()
		for range c.reserved {
			if elements[i] != nil {
				elements[i] = elements[i].Next()
			}
		}
	}
	for found := true; found && len(heads) < n; {
		found = false
		for i, e := range elements {
			if e != nil && len(heads) < n {
				found = true
				heads = append(heads, e.Value.(*waiter))
				elements[i] = e.Next()
			}
		}
	}
	return heads
}

// place returns how many turns it takes until a new call of the client has one.
func (q *queue) place(name string) (n int) {
	own := 0
	if c := q.clients[name]; c != nil {
		own = c.calls.Len()
	}
	for _, c := range q.round {
		if c.name == name {
			n += own
		} else {
			n += min(c.calls.Len(), own+1)
		}
	}
	return n + 1
}

// sweep forgets the clients that have had no turn of late.
func (q *queue) sweep(now, interval time.Duration) {
	for name, c := range q.clients {
		if c.rotate(now, interval); c.calls.Len() == 0 && c.reserved == 0 && c.lately() == 0 {
			delete(q.clients, name)
		}
	}
}
