package proxy

import (
	"sync/atomic"
	"time"
)

// historyMinutes is how many minutes a [History] keeps, including the current one.
const historyMinutes = 60

// A Minute counts the calls that ended in one minute.
type Minute struct {
	Begin time.Time

	// Calls is the number of all calls.
	Calls int64

	// Errors is the number of those that an operator should know about: status
	// 401, 429 or 5xx, and all answers of the proxy's own.
	Errors int64
}

// A History counts this process's calls of the last hour, minute by minute. It is safe for
// concurrent use, and takes no lock.
type History struct {
	now     func() time.Time
	minutes [historyMinutes]atomic.Pointer[minute]
}

type minute struct {
	number        int64 // since 1970
	calls, errors atomic.Int64
}

// NewHistory returns an empty history. A nil clock means time.Now.
func NewHistory(now func() time.Time) *History {
	if now == nil {
		now = time.Now
	}
	return &History{now: now}
}

// count counts a call that has ended.
func (h *History) count(failed bool) {
	number := h.now().Unix() / 60
	slot := &h.minutes[number%historyMinutes]
	m := slot.Load()
	if m == nil || m.number != number {
		next := &minute{number: number}
		if slot.CompareAndSwap(m, next) {
			m = next
		} else {
			m = slot.Load()
		}
	}
	m.calls.Add(1)
	if failed {
		m.errors.Add(1)
	}
}

// Minutes returns the last 60 minutes, the current one last.
func (h *History) Minutes() []Minute {
	current := h.now().Unix() / 60
	minutes := make([]Minute, 0, historyMinutes)
	for number := current - historyMinutes + 1; number <= current; number++ {
		m := Minute{Begin: time.Unix(number*60, 0)}
		if held := h.minutes[number%historyMinutes].Load(); held != nil && held.number == number {
			m.Calls, m.Errors = held.calls.Load(), held.errors.Load()
		}
		minutes = append(minutes, m)
	}
	return minutes
}
