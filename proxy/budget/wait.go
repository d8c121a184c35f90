package budget

import (
	"context"
	"time"
)

// wait waits for the call's turn until the deadline.
func (w *window) wait(ctx context.Context, call Call, deadline time.Time) (Turn, error) {
	waiter, refused := w.enter(call, deadline.Sub(w.budget.began))
	if refused != nil {
		return Turn{}, refused
	}
	w.budget.waiting.Add(1)
	defer w.budget.waiting.Add(-1)
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	select {
	case got := <-waiter.answer:
		return got.give()
	case <-ctx.Done():
	case <-timer.C:
	}
	if !w.leave(waiter) {
		// The call got a turn or a refusal at the same moment.
		got := <-waiter.answer
		if ctx.Err() != nil {
			got.turn.unused()
			return Turn{}, ctx.Err()
		}
		return got.give()
	}
	if ctx.Err() != nil {
		return Turn{}, ctx.Err()
	}
	return Turn{}, w.refusal()
}

func (r result) give() (Turn, error) {
	if r.refused != nil {
		return Turn{}, r.refused
	}
	return r.turn, nil
}

// enter puts the call into the queue, unless its turn cannot come in time.
func (w *window) enter(call Call, deadline time.Duration) (*waiter, *RefusedError) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.budget.now()
	if c := w.queue.clientNamed(call.Client); c.calls.Len() >= maxWaiting || w.budget.waiting.Load() >= maxWaitingTotal {
		refused := w.refusedUntil(max(w.spacing*maxWaiting, time.Second))
		refused.Full = true
		return nil, refused
	}
	if at := w.expected(call.Client, now); !call.Again && at > deadline {
		return nil, w.refusedUntil(at - now)
	}
	waiter := w.queue.enter(call.Client, call.Again, deadline)
	w.startVisits()
	return waiter, nil
}

// expected estimates the earliest turn of a new call of the client. It returns now if
// the process does not know.
func (w *window) expected(client string, now time.Duration) time.Duration {
	if w.lastTurn <= now {
		return now
	}
	// These turns are only spread, and may come earlier.
	free := max(0, w.limit-w.used)
	return w.lastTurn + time.Duration(max(0, w.queue.position(client)-w.reserved-1-free))*w.spacing*8/10
}

// refusedUntil returns the error for a call that has no turn before after has passed.
func (w *window) refusedUntil(after time.Duration) *RefusedError {
	return &RefusedError{RetryAfter: max(after, time.Millisecond), Policy: w.policy()}
}

// refusal returns the error for a call that has reached its deadline.
func (w *window) refusal() *RefusedError {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.refusedUntil(max(w.lastTurn-w.budget.now(), w.spacing))
}

// leave takes a call out of the queue, and reports false if the call has a turn already.
func (w *window) leave(waiter *waiter) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.queue.leave(waiter)
}

// give gives a turn to the next call of the queue, which need not be the one that the
// process asked for. It reports whether a call waits. The caller holds w.mu.
func (w *window) give(turn Turn, now time.Duration) bool {
	waiter := w.queue.next()
	if waiter == nil {
		if turn.from != 0 {
			w.uses.giveBack(turn.from, 1)
		}
		return false
	}
	w.queue.countTurn(waiter.client.name, now, w.interval)
	if turn.from == 0 {
		w.uses.add(now, 0, 1, w.interval)
	}
	waiter.answer <- result{turn: turn}
	return true
}

// startVisits starts run, unless it is running, or there is no work. The caller holds
// w.mu.
func (w *window) startVisits() {
	if w.visiting || !w.hasWork() || w.budget.ctx.Err() != nil {
		return
	}
	w.visiting = true
	w.budget.goroutines.Go(w.run)
}

// report makes a visit even if no call waits. The caller holds w.mu.
func (w *window) report() {
	w.again = true
	w.startVisits()
}

// hasWork reports whether run has anything to do.
func (w *window) hasWork() bool { return w.again || w.asks() > 0 }

// maxReserved is how many turns with a later time a process has at once: one for each
// client, up to four, so that a call of another client need not wait for many turns of
// one client; more if turns follow each other faster than visits.
func (w *window) maxReserved() int {
	n := min(len(w.queue.round), 4)
	if w.spacing > 0 {
		n = max(n, min(50, int(20*time.Millisecond/w.spacing)))
	}
	return max(1, n)
}

// asks returns how many turns the next visit asks for.
func (w *window) asks() int {
	return min(w.queue.waiting, w.maxReserved()) - w.reserved
}

// run visits the window until there is no more work.
func (w *window) run() {
	for {
		w.mu.Lock()
		if !w.hasWork() || w.budget.ctx.Err() != nil {
			w.visiting = false
			w.mu.Unlock()
			return
		}
		w.again = false
		if w.budget.outage.down.Load() {
			w.serveAlone()
			w.visiting = false
			w.mu.Unlock()
			return
		}
		w.mu.Unlock()
		w.visit()
	}
}

// reservation is a turn with a later time. It counts as reserved until its call has
// probably reached HubSpot, because the time of the next turn may depend on that.
type reservation struct {
	client *client
	over   bool
}

// giveLater gives the turn to a call at the turn's time. The caller holds w.mu.
func (w *window) giveLater(c *client, turn Turn, delay time.Duration) {
	turn.reserved = &reservation{client: c}
	w.reserved++
	c.reserved++
	w.lastTurn = max(w.lastTurn, w.budget.now()+delay)
	time.AfterFunc(delay, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if !w.give(turn, w.budget.now()) {
			w.release(turn.reserved)
			return
		}
		time.AfterFunc(min(w.minMargin(), w.spacing/2), func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.release(turn.reserved)
		})
	})
}

// release ends the reservation, so that the process asks for another turn. The caller
// holds w.mu.
func (w *window) release(r *reservation) {
	if r != nil && !r.over {
		r.over = true
		w.reserved--
		r.client.reserved--
		w.startVisits()
	}
}
