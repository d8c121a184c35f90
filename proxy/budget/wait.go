package budget

import (
	"context"
	"time"
)

// wait waits for the call's turn, until the deadline at the latest.
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
		// It was given a turn at the same moment.
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

// enter lets the call wait, unless its turn cannot come in time.
func (w *window) enter(call Call, deadline time.Duration) (*waiter, *RefusedError) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.budget.now()
	if c := w.queue.of(call.Client); c.calls.Len() >= mostWaiting || w.budget.waiting.Load() >= mostWaitingInAll {
		refused := w.refusedUntil(max(w.spacing*mostWaiting, time.Second))
		refused.Full = true
		return nil, refused
	}
	if at := w.expected(call.Client, now); !call.Again && at > deadline {
		return nil, w.refusedUntil(at - now)
	}
	waiter := w.queue.enter(call.Client, call.Again, deadline)
	w.kick()
	return waiter, nil
}

// expected returns when a new call of the client may have its turn at the earliest,
// if that is known.
func (w *window) expected(client string, now time.Duration) time.Duration {
	if w.lastTurn <= now {
		return now
	}
	// The window may have room that is only spread.
	free := max(0, w.limit-w.used)
	return w.lastTurn + time.Duration(max(0, w.queue.place(client)-w.reserved-1-free))*w.spacing*8/10
}

// refusedUntil returns the error of a call that has no turn before after has passed.
func (w *window) refusedUntil(after time.Duration) *RefusedError {
	return &RefusedError{RetryAfter: max(after, time.Millisecond), Policy: w.policy()}
}

// refusal is refusedUntil for a call that has waited in vain.
func (w *window) refusal() *RefusedError {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.refusedUntil(max(w.lastTurn-w.budget.now(), w.spacing))
}

// leave takes a call out of the queue, unless it has a turn already.
func (w *window) leave(waiter *waiter) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.queue.leave(waiter)
}

// give gives a turn to the call that is next, whichever it was asked for, and reports
// whether there is one. The window's lock is held.
func (w *window) give(turn Turn, now time.Duration) bool {
	waiter := w.queue.next()
	if waiter == nil {
		if turn.from != 0 {
			w.uses.giveBack(turn.from, 1)
		}
		return false
	}
	w.queue.count(waiter.client.name, now, w.interval)
	if turn.from == 0 {
		w.uses.add(now, 0, 1, w.interval)
	}
	waiter.answer <- result{turn: turn}
	return true
}

// kick sees to it that calls that wait get turns, and that what is to be reported is.
// The window's lock is held.
func (w *window) kick() {
	if w.visiting || !w.hasWork() || w.budget.life.Err() != nil {
		return
	}
	w.visiting = true
	w.budget.work.Go(w.run)
}

// report asks for a visit that only reports. The window's lock is held.
func (w *window) report() {
	w.again = true
	w.kick()
}

// hasWork reports whether run has anything to do.
func (w *window) hasWork() bool { return w.again || w.asks() > 0 }

// mostReserved is how many turns of later than now a process has reserved at once:
// one for each client, so that who comes next need not wait for those of a client
// with many calls; more where turns follow each other faster than visits.
func (w *window) mostReserved() int {
	n := min(len(w.queue.round), 4)
	if w.spacing > 0 {
		n = max(n, min(50, int(20*time.Millisecond/w.spacing)))
	}
	return max(1, n)
}

// asks returns how many turns are to be asked for.
func (w *window) asks() int {
	return min(w.queue.waiting, w.mostReserved()) - w.reserved
}

// run works until nothing is left to do.
func (w *window) run() {
	for {
		w.mu.Lock()
		if !w.hasWork() || w.budget.life.Err() != nil {
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

// reservation is a turn of later than now. There is no other in its place until it is
// known when its call has reached HubSpot: the next one may depend on that.
type reservation struct {
	client *client
	over   bool
}

// later gives the turn when its time has come. The window's lock is held.
func (w *window) later(c *client, turn Turn, delay time.Duration) {
	turn.reserved = &reservation{client: c}
	w.reserved++
	c.reserved++
	w.lastTurn = max(w.lastTurn, w.budget.now()+delay)
	time.AfterFunc(delay, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if !w.give(turn, w.budget.now()) {
			w.end(turn.reserved)
			return
		}
		time.AfterFunc(min(w.leastMargin(), w.spacing/2), func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.end(turn.reserved)
		})
	})
}

// end lets another turn take the reservation's place. The window's lock is held.
func (w *window) end(r *reservation) {
	if r != nil && !r.over {
		r.over = true
		w.reserved--
		r.client.reserved--
		w.kick()
	}
}
