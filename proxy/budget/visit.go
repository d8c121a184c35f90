package budget

import (
	"context"
	_ "embed"
	"time"

	"github.com/redis/go-redis/v9"

	"hubspot-auth-proxy/tokens/store"
)

//go:embed visit.lua
var visitScript string

var visitLua = redis.NewScript(visitScript)

// startVisits starts run, unless it is running, or there is no work. The caller holds
// w.mu.
func (w *window) startVisits() {
	if w.visiting || !w.hasWork() || w.process.ctx.Err() != nil {
		return
	}
	w.visiting = true
	w.process.goroutines.Go(w.run)
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
func (w *window) asks() int { return min(w.queue.waiting, w.maxReserved()) - w.reserved }

// run visits the window until there is no more work.
func (w *window) run() {
	for {
		w.mu.Lock()
		if !w.hasWork() || w.process.ctx.Err() != nil {
			w.visiting = false
			w.mu.Unlock()
			return
		}
		w.again = false
		if w.process.down.Load() {
			w.serveAlone()
			w.visiting = false
			w.mu.Unlock()
			return
		}
		w.mu.Unlock()
		w.visit()
	}
}

// visit runs the script once: it reports, asks for turns, and gives them to calls.
func (w *window) visit() {
	w.mu.Lock()
	now := w.process.now()
	w.dropStock(now)
	args, asked := w.request(now)
	outage := w.process.outages.Load()
	w.mu.Unlock()

	ctx, cancel := context.WithTimeout(w.process.ctx, visitTimeout)
	defer cancel()
	answer, err := visitLua.Run(ctx, w.process.redis, []string{w.key.inRedis(w.process.prefix)}, args...).Int64Slice()
	if err == nil && len(answer) != 8+2*len(asked) {
		err = store.ErrShape
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.process.beginOutage(err)
		return
	}
	w.outage = outage
	w.apply(answer, now)
	w.serve(asked, answer[8:])
}

// request returns the script's arguments, and the calls that it asks turns for.
func (w *window) request(now time.Duration) (args []any, asked []*waiter) {
	if w.outage != w.process.outages.Load() {
		w.uses.forgetReports()
	}
	limit, interval := 0, time.Duration(0)
	if w.learned {
		limit, interval, w.learned = w.limit, w.interval, false
	}
	args = append(args, w.process.name, limit, µs(interval), w.limit, µs(w.interval), µs(w.rejected))
	w.rejected = 0
	args = append(args, w.observed.arguments(now, w.interval)...)
	w.observed = observation{}
	moves, wanted := w.uses.takeUnreported(), -1
	if w.queue.waiting == 0 { // else each call asks for a turn of its own
		wanted = w.uses.within(now - w.interval)
	}
	args = append(args, wanted, w.stock, len(moves))
	for _, m := range moves {
		age := int64(-1)
		if m.at >= 0 {
			age = µs(now - m.at)
		}
		args = append(args, m.from, age, m.n)
	}
	asked = w.queue.heads(max(0, w.asks()))
	args = append(args, len(asked))
	for _, one := range asked {
		light := 0
		if w.queue.light(one.client, now, w.interval, w.limit) {
			light = 1
		}
		args = append(args, µs(max(0, one.deadline-now)), light)
	}
	return args, asked
}

// apply stores the script's answer about the window.
func (w *window) apply(answer []int64, sent time.Duration) {
	now := w.process.now()
	if !w.learned {
		w.limit = min(max(int(answer[0]), 1), maxLimit)
		w.interval = min(max(time.Duration(answer[1])*time.Microsecond, minInterval), maxInterval)
	}
	w.processes, w.used = max(1, int(answer[2])), int(answer[3])
	w.far = answer[4] == 1
	w.visited = now
	if w.far {
		w.doubtUntil = 0
	}
	if n := int(answer[5]); n > 0 {
		w.giveBackStock()
		w.stock, w.stockLow, w.stockFrom, w.stockUntil = n, n/4, answer[6], sent+w.interval/4
	} else if !w.far {
		w.giveBackStock()
	}
	w.spacing = time.Duration(max(answer[7], 1)) * time.Microsecond
	w.queue.sweep(now, w.interval)
}

// serve gives the calls the turns that Redis has answered, or refuses the calls.
func (w *window) serve(asked []*waiter, answers []int64) {
	now := w.process.now()
	for i, one := range asked {
		delay, from := time.Duration(answers[2*i])*time.Microsecond, answers[2*i+1]
		switch {
		case from == 0:
			w.lastTurn = max(w.lastTurn, now-delay)
			w.refuse(one, -delay)
		case delay == 0:
			w.give(slot{from: from}, now)
		default:
			w.giveLater(slot{from, &reservation{client: one.client}}, delay)
		}
	}
}

// refuse refuses a call that has no turn before after has passed.
func (w *window) refuse(one *waiter, after time.Duration) {
	if w.queue.leave(one) {
		one.answer <- result{err: w.refusedUntil(after)}
	}
}

// give gives a slot to the next call of the queue, which need not be the call that the
// process asked for. give reports false if no call waits. The caller holds w.mu.
func (w *window) give(s slot, now time.Duration) bool {
	waiter := w.queue.next()
	if waiter == nil {
		w.giveBack(s)
		return false
	}
	w.queue.countTurn(waiter.client.name, now, w.interval)
	if s.from == 0 {
		w.uses.add(now, 0, 1, w.interval)
	}
	waiter.answer <- result{slot: s}
	return true
}

// giveBack gives back a slot that no call has used. The caller holds w.mu.
func (w *window) giveBack(s slot) {
	if s.from != 0 {
		w.uses.giveBack(s.from, 1)
	}
	w.release(s.reserved)
}

// giveLater gives the slot to a call at the slot's time. The caller holds w.mu.
func (w *window) giveLater(s slot, delay time.Duration) {
	w.reserved++
	s.reserved.client.reserved++
	w.lastTurn = max(w.lastTurn, w.process.now()+delay)
	time.AfterFunc(delay, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if !w.give(s, w.process.now()) {
			return
		}
		time.AfterFunc(min(w.minMargin(), w.spacing/2), func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.release(s.reserved)
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

// serveAlone gives turns of the process' own share to the calls that wait. The caller
// holds w.mu.
func (w *window) serveAlone() {
	now := w.process.now()
	for w.queue.waiting > 0 {
		delay := w.delayAlone(now)
		if delay == 0 {
			w.give(slot{}, now)
			continue
		}
		w.spacing = w.interval / time.Duration(w.alone.share)
		w.lastTurn, w.used = max(w.lastTurn, now+delay), w.limit
		if !w.alone.timer {
			w.alone.timer = true
			time.AfterFunc(min(delay, probeInterval), func() {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.alone.timer = false
				w.startVisits()
			})
		}
		return
	}
}

// refusedUntil returns the error for a call that has no turn before after has passed.
func (w *window) refusedUntil(after time.Duration) *RefusedError {
	policy := PolicyBurst
	if w.key.search {
		policy = PolicySecond
	}
	return &RefusedError{RetryAfter: max(after, time.Millisecond), Policy: policy}
}
