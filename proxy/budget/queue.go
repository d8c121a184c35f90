package budget

import (
	"container/list"
	"slices"
	"sort"
	"time"
)

// queue has the calls that wait for turns of one window. Turns go round the clients.
// window.mu guards it.
type queue struct {
	clients map[string]*client
	round   []*client // clients with calls that wait, in the order of their turns
	served  uint64    // how many turns were given
	waiting int
}

// client has the calls of a client that wait, and how many turns it has had recently.
type client struct {
	name     string
	calls    list.List // of *waiter
	reserved int       // turns with a later time that were asked for these calls
	served   uint64    // queue.served at its last turn

	interval int64  // the number of the interval that turns[0] counts
	turns    [2]int // in this interval, and in the one before
}

// waiter is one call that waits.
type waiter struct {
	client   *client
	element  *list.Element // of client.calls; nil means that the call has left
	deadline time.Duration
	answer   chan result // with a buffer of one
}

// result is the outcome of waiting: a slot, or a [*RefusedError].
type result struct {
	slot slot
	err  error
}

// slot is the place of one call in the window in Redis.
type slot struct {
	from     int64        // when the call counts, by Redis' clock; 0 means that its use is recorded already
	reserved *reservation // nil unless the slot was given for a later time
}

// reservation is a slot with a later time. It counts as reserved until its call has
// probably reached HubSpot, because the time of the next slot may depend on that.
type reservation struct {
	client *client
	over   bool
}

// clientNamed returns the client with the name, and adds the client if it is missing.
func (q *queue) clientNamed(name string) *client {
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

// countTurn counts a turn of the client.
func (q *queue) countTurn(name string, now, interval time.Duration) {
	c := q.clientNamed(name)
	c.rotate(now, interval)
	c.turns[0]++
}

// rotate begins a new count if another interval has begun.
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

// light reports whether the client has had fewer recent turns than the mean of all
// clients, or less than a twentieth of the limit.
func (q *queue) light(c *client, now, interval time.Duration, limit int) bool {
	turns, active := 0, 0
	for _, other := range q.clients {
		if other.rotate(now, interval); other.recentTurns() > 0 {
			active++
			turns += other.recentTurns()
		}
	}
	return c.recentTurns()*active < turns || c.recentTurns() < limit/20
}

// recentTurns returns how many turns the client has had in this interval and the one
// before.
func (c *client) recentTurns() int { return c.turns[0] + c.turns[1] }

// enter adds a call behind the other calls of its client, or before them if first is set.
func (q *queue) enter(name string, first bool, deadline time.Duration) *waiter {
	c := q.clientNamed(name)
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

// leave takes a call out of the queue. It reports false if the call has left already.
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

// drop takes the client out of the round.
func (q *queue) drop(c *client) {
	q.round = slices.DeleteFunc(q.round, func(other *client) bool { return other == c })
}

// next takes out the call that has the next turn, and moves its client to the end of the
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

// heads returns the next n calls for which no turn is reserved.
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

// position returns which turn from now a new call of the client would have.
func (q *queue) position(name string) (n int) {
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

// sweep drops the clients that have had no recent turn.
func (q *queue) sweep(now, interval time.Duration) {
	for name, c := range q.clients {
		if c.rotate(now, interval); c.calls.Len() == 0 && c.reserved == 0 && c.recentTurns() == 0 {
			delete(q.clients, name)
		}
	}
}
