package activity

import (
	"math"
	"net/http"
	"sync/atomic"
	"time"
)

// minutes is how many minutes an hour keeps, including the current one.
const minutes = 60

// An hour counts by the minute. The slot of a minute is at the index of its number (minutes
// since 1970) modulo minutes. The upper 32 bits of a slot are that number, the lower 32 bits the
// count.
type hour [minutes]atomic.Uint64

// minuteOf returns the number of the minute.
func minuteOf(t time.Time) uint64 { return uint64(t.Unix() / 60) }

func (h *hour) add(minute uint64) {
	slot := &h[minute%minutes]
	for {
		held := slot.Load()
		next := held + 1
		if held>>32 != minute {
			next = minute<<32 | 1
		}
		if slot.CompareAndSwap(held, next) {
			return
		}
	}
}

// in returns the count of a minute.
func (h *hour) in(minute uint64) int64 {
	if held := h[minute%minutes].Load(); held>>32 == minute {
		return int64(held & math.MaxUint32)
	}
	return 0
}

// sum returns the count of the last minutes, up to the current one.
func (h *hour) sum(current uint64) (n int64) {
	for ago := range uint64(minutes) {
		n += h.in(current - ago)
	}
	return n
}

// A Minute counts the calls that ended in one minute.
type Minute struct {
	Begin time.Time

	// Calls is the number of all calls.
	Calls int64

	// Errors is the number of those that an operator should know about: status 401, 429
	// or 5xx, and all answers of the proxy's own.
	Errors int64
}

// isError reports whether the call counts as an error of its minute.
func (c *Call) isError() bool {
	return c.Refused || c.Status == http.StatusUnauthorized || c.Status == http.StatusTooManyRequests || c.Status >= 500
}

// Minutes returns the last 60 minutes, the current one last.
func (l *Log) Minutes() []Minute {
	current, clients := minuteOf(l.now()), *l.clients.Load()
	all := make([]Minute, 0, minutes)
	for minute := current - minutes + 1; minute <= current; minute++ {
		m := Minute{Begin: time.Unix(int64(minute)*60, 0), Errors: l.errors.in(minute)}
		for _, calls := range clients {
			m.Calls += calls.in(minute)
		}
		all = append(all, m)
	}
	return all
}
