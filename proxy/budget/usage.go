package budget

import (
	"cmp"
	"context"
	_ "embed"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"hubspot-auth-proxy/tokens/store"
)

const (
	// flushEvery is how often what was counted is added to Redis.
	flushEvery = 3 * time.Second

	// UsageDays is how many days the calls are kept, today included.
	UsageDays = 35

	// mostNames is how many clients the metric names.
	mostNames = 200
)

// Usage counts the calls that are sent to HubSpot, of each client and portal, day by
// day. It is safe for concurrent use.
type Usage struct {
	budget   *Budget
	requests *prometheus.CounterVec

	mu     sync.Mutex
	day    int64                 // since 1970, that calls are of
	calls  map[usageKey]*counted // of that day, not in Redis yet
	older  []addition            // of days before
	names  map[string]prometheus.Counter
	limits map[string]*dailyLimit // by the client's name

	flushing sync.Mutex
	unsure   []addition // of which it is not known whether Redis has them
	number   int64      // of the last addition
}

type usageKey struct{ client, portal string }

// counted is calls of a client for a portal.
type counted struct {
	n       int64
	counter prometheus.Counter
}

// addition is calls of a day that are added to Redis at once.
type addition struct {
	day    string
	number int64
	calls  map[usageKey]int64
}

func newUsage(b *Budget, to prometheus.Registerer) *Usage {
	return &Usage{
		budget: b, calls: make(map[usageKey]*counted), names: make(map[string]prometheus.Counter), limits: make(map[string]*dailyLimit),
		requests: promauto.With(to).NewCounterVec(prometheus.CounterOpts{
			Name: metricPrefix + "client_requests_total",
			Help: "Calls sent to HubSpot, by the client's name: (anonymous) for those without a key, other for those of further clients once 200 have names.",
		}, []string{"client"}),
	}
}

// The names of the metric that are no client's.
const (
	anonymousName = "(anonymous)"
	otherName     = "other"
)

// Count counts a call of the client that is sent to HubSpot. An empty client is
// anonymous.
func (u *Usage) Count(client, portal string, now time.Time) {
	day := now.Unix() / (24 * 60 * 60)
	u.mu.Lock()
	if day != u.day {
		u.older = append(u.older, u.takeCounted()...)
		u.day = day
	}
	key := usageKey{client, portal}
	c := u.calls[key]
	if c == nil {
		c = &counted{counter: u.counter(client)}
		u.calls[key] = c
	}
	c.n++
	counter := c.counter
	u.mu.Unlock()
	counter.Inc()
}

// takeCounted takes what was counted of the day, and sets it to zero.
func (u *Usage) takeCounted() []addition {
	calls := make(map[usageKey]int64)
	for key, c := range u.calls {
		if c.n > 0 {
			calls[key] = c.n
			c.n = 0
		} else {
			delete(u.calls, key) // not used of late
		}
	}
	if len(calls) == 0 {
		return nil
	}
	return []addition{{day: time.Unix(u.day*24*60*60, 0).UTC().Format(time.DateOnly), calls: calls}}
}

// counter returns the counter of the client's requests.
func (u *Usage) counter(client string) prometheus.Counter {
	if counter := u.names[client]; counter != nil {
		return counter
	}
	name := cmp.Or(client, anonymousName)
	if len(u.names) >= mostNames {
		return u.requests.WithLabelValues(otherName)
	}
	counter := u.requests.WithLabelValues(name)
	u.names[client] = counter
	return counter
}

// flushRegularly adds what was counted to Redis, every few seconds until ctx ends.
func (u *Usage) flushRegularly(ctx context.Context) {
	ticker := time.NewTicker(flushEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if err := u.flush(ctx); err != nil && ctx.Err() == nil {
			u.budget.faults.Warn("counted calls cannot be added to Redis: they are kept until they can", zap.Error(err))
		}
		u.giveBackDaily(ctx, false)
	}
}

// flush adds what was counted to Redis, what it may have got before first.
func (u *Usage) flush(ctx context.Context) error {
	u.flushing.Lock()
	defer u.flushing.Unlock()
	u.mu.Lock()
	older := append(u.older, u.takeCounted()...)
	u.older = nil
	u.mu.Unlock()
	for _, one := range older {
		u.queue(one.day, one.calls)
	}
	for len(u.unsure) > 0 {
		if err := u.add(ctx, &u.unsure[0]); err != nil {
			return err
		}
		u.unsure = u.unsure[1:]
	}
	return nil
}

// queue puts calls behind what is to be added, with what was not tried yet of the same
// day, so that there is little of it while Redis does not answer.
func (u *Usage) queue(day string, calls map[usageKey]int64) {
	if last := len(u.unsure) - 1; last >= 0 && u.unsure[last].day == day && u.unsure[last].number == 0 {
		for key, n := range calls {
			u.unsure[last].calls[key] += n
		}
		return
	}
	u.unsure = append(u.unsure, addition{day: day, calls: calls})
}

//go:embed usage.lua
var usageScript string

var usageLua = redis.NewScript(usageScript)

// mostFields is how many fields one script adds to.
const mostFields = 1000

// add adds the calls to Redis, part by part.
func (u *Usage) add(ctx context.Context, a *addition) error {
	keys := slices.SortedFunc(maps.Keys(a.calls), func(x, y usageKey) int {
		return cmp.Or(cmp.Compare(x.portal, y.portal), cmp.Compare(x.client, y.client))
	})
	for part := range slices.Chunk(keys, mostFields) {
		if a.number == 0 {
			u.number++
			a.number = u.number
		}
		args := []any{u.budget.process, a.number, (UsageDays * 24 * time.Hour).Milliseconds()}
		for _, key := range part {
			args = append(args, key.portal+" "+key.client, a.calls[key])
		}
		limited, cancel := context.WithTimeout(ctx, store.Timeout)
		err := usageLua.Run(limited, u.budget.redis, []string{u.budget.usageKey(a.day), u.budget.usageKey(a.day) + ":done"}, args...).Err()
		cancel()
		if err != nil {
			return store.Failure("add counted calls to Redis", err)
		}
		for _, key := range part {
			delete(a.calls, key)
		}
		a.number = 0
	}
	return nil
}

func (b *Budget) usageKey(day string) string { return usageKeyOf(b.prefix, day) }

func usageKeyOf(prefix, day string) string { return prefix + "usage:{" + day + "}" }

// DayUsage is how many calls of one client for one portal were sent on a day.
type DayUsage struct {
	Day    string `json:"day"` // by UTC, such as 2026-11-28
	Client string `json:"client"`
	Portal string `json:"portal"`
	Calls  int64  `json:"calls"`
}

// ReadUsage returns the calls of the last days, today included, that are in Redis: the
// newest day first, then by portal and client. Processes add theirs every few seconds.
// An empty client is all anonymous ones. It reads one key for each day, so that a page
// may call it, and takes about a millisecond for a thousand pairs of client and portal.
//
//	calls, err := budget.ReadUsage(ctx, redis, "hubspot:", 1, time.Now())
func ReadUsage(ctx context.Context, client redis.UniversalClient, prefix string, days int, now time.Time) ([]DayUsage, error) {
	var all []DayUsage
	for n := range min(days, UsageDays) {
		day := now.UTC().AddDate(0, 0, -n).Format(time.DateOnly)
		limited, cancel := context.WithTimeout(ctx, store.Timeout)
		fields, err := client.HGetAll(limited, usageKeyOf(prefix, day)).Result()
		cancel()
		if err != nil {
			return nil, store.Failure("read the counted calls from Redis", err)
		}
		var read []DayUsage
		for name, value := range fields {
			calls, err := strconv.ParseInt(value, 10, 64)
			portal, client, found := strings.Cut(name, " ")
			if err != nil || !found {
				return nil, fmt.Errorf("the counted calls of %s in Redis are damaged", day)
			}
			read = append(read, DayUsage{day, client, portal, calls})
		}
		slices.SortFunc(read, func(a, b DayUsage) int {
			return cmp.Or(cmp.Compare(len(a.Portal), len(b.Portal)), cmp.Compare(a.Portal, b.Portal), cmp.Compare(a.Client, b.Client))
		})
		all = append(all, read...)
	}
	return all, nil
}
