package budget

import (
	"context"
	"time"
)

// maxWaiting is how many calls of one client may wait for one portal in a process.
// maxWaitingTotal is how many calls of all clients may wait for all portals.
const maxWaiting, maxWaitingTotal = 1000, 20_000

// takeAtOnce returns a turn if the process has one, so that the call need not wait.
func (w *window) takeAtOnce(client string, now time.Duration) (Turn, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dropStock(now)
	from, down := int64(0), w.process.down.Load()
	switch {
	case w.queue.waiting > 0, down && w.delayAlone(now) > 0:
		return Turn{}, false
	case down:
	case now < w.doubtUntil, w.rejected > 0:
		return Turn{}, false
	case w.stock > 0:
		w.stock--
		from = w.stockFrom
	case w.farAsKnown(now) && w.uses.unreported < w.credit():
	default:
		return Turn{}, false
	}
	w.uses.add(now, from, 1, w.interval)
	w.queue.countTurn(client, now, w.interval)
	if from != 0 && w.stock == w.stockLow || from == 0 && w.uses.unreported*2 >= w.credit() && !down {
		w.report()
	}
	return Turn{window: w}, true
}

// wait waits for the call's turn until the deadline.
func (w *window) wait(ctx context.Context, call Call, deadline time.Time) (Turn, error) {
	waiter, err := w.enter(call, deadline.Sub(w.process.began))
	if err != nil {
		return Turn{}, err
	}
	w.process.waiting.Add(1)
	defer w.process.waiting.Add(-1)
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	var got result
	select {
	case got = <-waiter.answer:
	case <-ctx.Done():
		got = w.leave(ctx, waiter)
	case <-timer.C:
		got = w.leave(ctx, waiter)
	}
	if got.err != nil {
		return Turn{}, got.err
	}
	return Turn{window: w, slot: got.slot}, nil
}

// enter puts the call into the queue, unless its turn cannot come in time.
func (w *window) enter(call Call, deadline time.Duration) (*waiter, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.process.now()
	if c := w.queue.clientNamed(call.Client); c.calls.Len() >= maxWaiting || w.process.waiting.Load() >= maxWaitingTotal {
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
	// Calls for which the window has room do not wait. The turns of the others are
	// spread over the interval, and may come earlier than w.spacing says.
	free := max(0, w.limit-w.used)
	return w.lastTurn + time.Duration(max(0, w.queue.position(client)-w.reserved-1-free))*w.spacing*8/10
}

// leave takes a call out of the queue that has reached its deadline, or whose client has
// left.
func (w *window) leave(ctx context.Context, waiter *waiter) result {
	w.mu.Lock()
	defer w.mu.Unlock()
	got := result{err: w.refusedUntil(max(w.lastTurn-w.process.now(), w.spacing))}
	if !w.queue.leave(waiter) {
		got = <-waiter.answer // the call got a turn or a refusal at the same moment
	}
	if ctx.Err() != nil {
		w.giveBack(got.slot)
		return result{err: ctx.Err()}
	}
	return got
}
