package activity

import (
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"hubspot-auth-proxy/proxy/wire"
)

const (
	// mostLimits is how many portals' limits are kept, as many as tokens.Source caches
	// credentials. A limit takes less than 200 bytes.
	mostLimits = 50_000

	// limitEvery is how often a portal's limit is read from HubSpot's answers.
	limitEvery = time.Second

	// nearMemory is how long a portal without further calls counts as near its daily
	// limit. HubSpot's limit begins anew after a day.
	nearMemory = 24 * time.Hour
)

// A Limit has HubSpot's limits of a portal's calls, from HubSpot's last answer. A negative
// number means that the answer did not have the number: HubSpot sends no daily figures to OAuth
// apps.
type Limit struct {
	Seen                  time.Time
	Max, Remaining        int           // in each Interval
	Interval              time.Duration // zero means unknown
	Daily, DailyRemaining int
}

type limitSeen struct {
	next  atomic.Int64 // when to read the limit again, in ns since 1970
	limit atomic.Pointer[Limit]

	// near is when less than a tenth of the daily limit was left, in ns since 1970. It is 0
	// if more was left. Answers without daily figures do not change it.
	near atomic.Int64
}

// seeLimit reads the portal's limit, unless it was read within limitEvery.
func (l *Log) seeLimit(c *Call, now time.Time) {
	seen, known := l.limits.GetIfPresent(c.Portal)
	if known && now.UnixNano() < seen.next.Load() {
		return
	}
	limit := readLimit(c.Answer, now)
	if limit.Remaining < 0 && limit.DailyRemaining < 0 {
		return // answers to searches and errors have no limit
	}
	if !known {
		// The clone does not keep the text of the whole request in memory.
		seen, _ = l.limits.SetIfAbsent(strings.Clone(c.Portal), new(limitSeen))
	}
	seen.next.Store(now.Add(limitEvery).UnixNano())
	last := limit // on the heap, which an answer without a limit does not need
	seen.limit.Store(&last)
	switch {
	case limit.Daily < 1 || limit.DailyRemaining < 0:
	case limit.DailyRemaining < limit.Daily/10:
		seen.near.Store(now.UnixNano())
	default:
		seen.near.Store(0)
	}
}

func readLimit(header http.Header, now time.Time) Limit {
	return Limit{
		Seen:           now,
		Max:            numberIn(header, "X-Hubspot-Ratelimit-Max"),
		Remaining:      numberIn(header, "X-Hubspot-Ratelimit-Remaining"),
		Interval:       time.Duration(max(0, numberIn(header, "X-Hubspot-Ratelimit-Interval-Milliseconds"))) * time.Millisecond,
		Daily:          numberIn(header, "X-Hubspot-Ratelimit-Daily"),
		DailyRemaining: numberIn(header, "X-Hubspot-Ratelimit-Daily-Remaining"),
	}
}

// numberIn returns the number in a header field, or -1 if the field has no number.
func numberIn(header http.Header, name string) int {
	text := wire.First(header, name)
	if text == "" {
		return -1 // without the error that ParseUint allocates
	}
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return -1
	}
	return int(n)
}

// Limit returns the portal's limit as last seen; ok is false if no limit was seen.
func (l *Log) Limit(portal string) (limit Limit, ok bool) {
	if seen, known := l.limits.GetEntryQuietly(portal); known {
		if last := seen.Value.limit.Load(); last != nil {
			return *last, true
		}
	}
	return Limit{}, false
}

// NearDailyLimit returns the number of portals that have less than a tenth left of HubSpot's daily
// limit, by the answers of the last day.
func (l *Log) NearDailyLimit() (portals int) {
	since := l.now().Add(-nearMemory).UnixNano()
	for seen := range l.limits.Values() {
		if near := seen.near.Load(); near != 0 && near >= since {
			portals++
		}
	}
	return portals
}
