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

// visit runs the script once: it reports, asks for turns, and gives them to calls.
func (w *window) visit() {
	w.mu.Lock()
	now := w.budget.now()
	w.dropStock(now)
	args, asked := w.request(now)
	outage := w.budget.outage.number.Load()
	w.mu.Unlock()

	ctx, cancel := context.WithTimeout(w.budget.ctx, visitTimeout)
	defer cancel()
	answer, err := visitLua.Run(ctx, w.budget.redis, []string{w.budget.key(w.key)}, args...).Int64Slice()
	if err == nil && len(answer) != 8+2*len(asked) {
		err = store.ErrShape
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.budget.beginOutage(failure(err))
		return
	}
	w.outage = outage
	w.apply(answer, now)
	w.serve(asked, answer[8:])
}

// request returns the script's arguments, and the calls that it asks turns for.
func (w *window) request(now time.Duration) (args []any, asked []*waiter) {
	if w.outage != w.budget.outage.number.Load() {
		w.uses.forgetReports()
	}
	limit, interval := 0, time.Duration(0)
	if w.learned {
		limit, interval, w.learned = w.limit, w.interval, false
	}
	args = append(args, w.budget.process, limit, µs(interval), w.limit, µs(w.interval), µs(w.rejected))
	w.rejected = 0
	args = append(args, w.observed.arguments(now, w.interval)...)
	w.observed = observation{}
	moves := w.uses.takeUnreported()
	args = append(args, w.wanted(now), w.stock, len(moves))
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

// wanted returns how many turns the process wants in advance: as many as it has used
// within the last interval. If calls wait, wanted returns -1, which means none, because each
// of these calls asks for a turn of its own.
func (w *window) wanted(now time.Duration) int {
	if w.queue.waiting > 0 {
		return -1
	}
	return w.uses.within(now - w.interval)
}

func µs(d time.Duration) int64 { return d.Microseconds() }

// apply stores the script's answer about the window.
func (w *window) apply(answer []int64, sent time.Duration) {
	now := w.budget.now()
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
		if w.stock > 0 {
			w.uses.giveBack(w.stockFrom, w.stock)
		}
		w.stock, w.stockLow, w.stockFrom, w.stockUntil = n, n/4, answer[6], sent+w.interval/4
	} else if !w.far && w.stock > 0 {
		w.uses.giveBack(w.stockFrom, w.stock)
		w.stock = 0
	}
	w.spacing = time.Duration(max(answer[7], 1)) * time.Microsecond
	w.queue.sweep(now, w.interval)
}

// serve gives the calls the turns that Redis has answered, or refuses the calls.
func (w *window) serve(asked []*waiter, answers []int64) {
	now := w.budget.now()
	for i, one := range asked {
		delay, from := time.Duration(answers[2*i])*time.Microsecond, answers[2*i+1]
		turn := Turn{window: w, from: from}
		switch {
		case from == 0:
			w.lastTurn = max(w.lastTurn, now-delay)
			w.refuse(one, -delay)
		case delay == 0:
			w.give(turn, now)
		default:
			w.giveLater(one.client, turn, delay)
		}
	}
}

// refuse refuses a call that has no turn before after has passed.
func (w *window) refuse(one *waiter, after time.Duration) {
	if w.queue.leave(one) {
		one.answer <- result{refused: w.refusedUntil(after)}
	}
}

// observation is how many calls HubSpot counts in its window, by the header of an answer.
type observation struct {
	counted        int // 0 means no observation
	sent, answered time.Duration
}

// arguments returns the script's arguments. An old observation is left out, because the
// window in Redis no longer has the calls that counted then.
func (o observation) arguments(now, interval time.Duration) []any {
	if o.counted == 0 || now-o.sent > interval/4 {
		return []any{-1, 0, 0}
	}
	return []any{o.counted, µs(now - o.sent), µs(now - o.answered)}
}
