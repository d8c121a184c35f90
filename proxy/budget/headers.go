package budget

import (
	"net/http"
	"strconv"
	"time"

	"hubspot-auth-proxy/proxy/wire"
)

// Bounds of what a process learns from HubSpot's headers.
const (
	maxLimit                 = 10_000
	minInterval, maxInterval = time.Second, time.Minute
)

// seenHeaders are the values of HubSpot's headers that were parsed last, with the
// result. Most answers have the same values.
type seenHeaders struct {
	limitText, intervalText string
	limit                   int
	interval                time.Duration
}

// read parses a header, and reports whether it has a limit and an interval.
func (h *seenHeaders) read(header http.Header) bool {
	limitText, intervalText := wire.First(header, "X-Hubspot-Ratelimit-Max"), wire.First(header, "X-Hubspot-Ratelimit-Interval-Milliseconds")
	if limitText == "" || intervalText == "" {
		return false
	}
	if h.limitText == limitText && h.intervalText == intervalText {
		return true
	}
	limit, err := strconv.Atoi(limitText)
	ms, err2 := strconv.Atoi(intervalText)
	if err != nil || err2 != nil || limit < 1 || ms < 1 {
		return false
	}
	interval := time.Duration(min(ms, int(maxInterval.Milliseconds()))) * time.Millisecond
	*h = seenHeaders{limitText, intervalText, min(limit, maxLimit), max(interval, minInterval)}
	return true
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

func µs(d time.Duration) int64 { return d.Microseconds() }
