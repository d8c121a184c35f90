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

	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/store"
)

const (
	// UsageDays is how many days Redis keeps the calls, today included.
	UsageDays = 35

	// maxNames is how many clients have a label value of their own in the metric.
	maxNames = 200
)

// Usage counts the calls that are sent to HubSpot, of each client and portal, day by
// day. It is safe for concurrent use.
type Usage struct {
	process  *process
	requests *prometheus.CounterVec

	mu    sync.Mutex
	calls map[usageKey]*counted // not in Redis yet
	names map[string]prometheus.Counter

	flushing sync.Mutex
	unsure   []addition // additions not confirmed by Redis; Redis may have the first
	number   int64      // the number of the last addition
}

type usageKey struct {
	day            int64 // days since 1970
	client, portal string
}

// counted is how many calls a client has sent for a portal on a day.
type counted struct {
	n       int64
	counter prometheus.Counter
}

// addition is the calls of a day that one script adds to Redis.
type addition struct {
	day    int64 // days since 1970
	number int64 // 0 means that no script was sent yet
	calls  map[usageKey]int64
}

func newUsage(p *process, to prometheus.Registerer) *Usage {
	return &Usage{
		process: p, calls: make(map[usageKey]*counted), names: make(map[string]prometheus.Counter),
		requests: promauto.With(to).NewCounterVec(prometheus.CounterOpts{
			Name: tokens.MetricPrefix + "client_requests_total",
			Help: "Calls sent to HubSpot, by the client's name: (anonymous) for those without a key, other for those of further clients once 200 have names.",
		}, []string{"client"}),
	}
}

// Count counts a call of the client that is sent to HubSpot. An empty client is
// anonymous.
func (u *Usage) Count(client, portal string, now time.Time) {
	key := usageKey{now.Unix() / (24 * 60 * 60), client, portal}
	u.mu.Lock()
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

// counter returns the counter of the client's requests. The caller holds u.mu.
func (u *Usage) counter(client string) prometheus.Counter {
	counter := u.names[client]
	switch {
	case counter != nil:
	case len(u.names) >= maxNames:
		counter = u.requests.WithLabelValues("other")
	default:
		counter = u.requests.WithLabelValues(cmp.Or(client, "(anonymous)"))
		u.names[client] = counter
	}
	return counter
}

// flush adds the counted calls to Redis. If an earlier flush has failed, flush adds the
// calls of that flush first.
func (u *Usage) flush(ctx context.Context) error {
	u.flushing.Lock()
	defer u.flushing.Unlock()
	u.queueCounted()
	for len(u.unsure) > 0 {
		if err := u.add(ctx, &u.unsure[0]); err != nil {
			return err
		}
		u.unsure = u.unsure[1:]
	}
	return nil
}

// queueCounted appends the counted calls to what flush adds. Calls of the same day become
// one addition until a script is sent for them, so that memory stays small while Redis does
// not answer.
func (u *Usage) queueCounted() {
	u.mu.Lock()
	defer u.mu.Unlock()
	for key, c := range u.calls {
		if c.n == 0 {
			delete(u.calls, key) // not used since the last flush
			continue
		}
		at := slices.IndexFunc(u.unsure, func(a addition) bool { return a.day == key.day && a.number == 0 })
		if at < 0 {
			at = len(u.unsure)
			u.unsure = append(u.unsure, addition{day: key.day, calls: make(map[usageKey]int64)})
		}
		u.unsure[at].calls[key] += c.n
		c.n = 0
	}
}

//go:embed usage.lua
var usageScript string

var usageLua = redis.NewScript(usageScript)

// maxFields is how many fields of the hash one script changes.
const maxFields = 1000

// add adds the calls to Redis, in parts of maxFields.
func (u *Usage) add(ctx context.Context, a *addition) error {
	keys := slices.SortedFunc(maps.Keys(a.calls), func(x, y usageKey) int {
		return cmp.Or(cmp.Compare(x.portal, y.portal), cmp.Compare(x.client, y.client))
	})
	hash := usageHash(u.process.prefix, time.Unix(a.day*24*60*60, 0).UTC().Format(time.DateOnly))
	for part := range slices.Chunk(keys, maxFields) {
		if a.number == 0 {
			u.number++
			a.number = u.number
		}
		args := []any{u.process.name, a.number, (UsageDays * 24 * time.Hour).Milliseconds()}
		for _, key := range part {
			args = append(args, key.portal+" "+key.client, a.calls[key])
		}
		limited, cancel := context.WithTimeout(ctx, store.Timeout)
		err := usageLua.Run(limited, u.process.redis, []string{hash, hash + ":done"}, args...).Err()
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

// usageHash returns the key in Redis of the calls of a day, such as 2026-11-28.
func usageHash(prefix, day string) string { return prefix + "usage:{" + day + "}" }

// DayUsage is how many calls one client has sent for one portal on one day.
type DayUsage struct {
	Day    string `json:"day"` // by UTC, such as 2026-11-28
	Client string `json:"client"`
	Portal string `json:"portal"`
	Calls  int64  `json:"calls"`
}

// ReadUsage returns the calls of the last days, today included, as far as Redis has them:
// processes add theirs every few seconds. The result is sorted by day, newest first,
// then by portal and client. An empty client means all anonymous ones. ReadUsage reads one key
// for each day, in about a millisecond for a thousand pairs of client and portal.
//
//	calls, err := budget.ReadUsage(ctx, redis, "hubspot:", 1, time.Now())
func ReadUsage(ctx context.Context, client redis.UniversalClient, prefix string, days int, now time.Time) ([]DayUsage, error) {
	var all []DayUsage
	for n := range min(days, UsageDays) {
		day := now.UTC().AddDate(0, 0, -n).Format(time.DateOnly)
		limited, cancel := context.WithTimeout(ctx, store.Timeout)
		fields, err := client.HGetAll(limited, usageHash(prefix, day)).Result()
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
