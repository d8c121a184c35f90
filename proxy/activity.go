package proxy

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"

	"hubspot-auth-proxy/proxy/wire"
)

const (
	// mostClients is how many clients have a count of their own. OtherClients is the
	// name under which the calls of all further clients are counted.
	mostClients  = 200
	OtherClients = "other clients"

	// mostLimits is how many portals' limits are kept. mostFailing is how many portals'
	// failures are kept, and mostFailures how many failures of each portal: about 5 MB
	// at most.
	mostLimits   = 10_000
	mostFailing  = 1_000
	mostFailures = 10

	// limitEvery is how often a portal's limit is read from HubSpot's answers.
	limitEvery = time.Second
)

// An Activity keeps the recent limits, failures and calls of a process' portals and
// clients, in bounded memory. An Activity is safe for concurrent use. No request waits for a
// lock unless HubSpot has refused the request.
type Activity struct {
	now     func() time.Time
	clients sync.Map // of *hourly, by the client's name
	known   atomic.Int64
	limits  *otter.Cache[string, *limitSeen]
	failing *otter.Cache[string, *failures]
}

// NewActivity returns an activity that has seen nothing. A nil clock means time.Now.
func NewActivity(now func() time.Time) *Activity {
	if now == nil {
		now = time.Now
	}
	return &Activity{
		now:     now,
		limits:  otter.Must(&otter.Options[string, *limitSeen]{MaximumSize: mostLimits}),
		failing: otter.Must(&otter.Options[string, *failures]{MaximumSize: mostFailing}),
	}
}

// A Limit has HubSpot's limits of a portal's calls, from HubSpot's last answer. A
// negative number means that the answer did not have the number: HubSpot sends no daily
// figures to OAuth apps.
type Limit struct {
	Seen                  time.Time
	Max, Remaining        int           // in each Interval
	Interval              time.Duration // zero means unknown
	Daily, DailyRemaining int
}

// A Failure is a call that HubSpot has answered with an error.
type Failure struct {
	At           time.Time
	Client       string // empty: anonymous
	Method, Path string // as the access log has them
	Status       int
	Category     string // HubSpot's category; empty if the answer has none
	Correlation  string // HubSpot's id of the answer
}

// A ClientCalls is how many calls of a client ended in the last hour.
type ClientCalls struct {
	Client string // empty: anonymous ones
	Calls  int64
}

type limitSeen struct {
	next  atomic.Int64 // when to read the limit again, in ns since 1970
	limit atomic.Pointer[Limit]
}

type failures struct {
	mu   sync.Mutex
	last []Failure // the newest is the last
}

// hourly counts calls by the minute. Each slot is a minute since 1970 in the upper
// half, and the number of its calls in the lower.
type hourly [historyMinutes]atomic.Uint64

func (h *hourly) count(minute uint64) {
	slot := &h[minute%historyMinutes]
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

func (h *hourly) sum(minute uint64) (calls int64) {
	for i := range h {
		if held := h[i].Load(); minute-held>>32 < historyMinutes {
			calls += int64(held & (1<<32 - 1))
		}
	}
	return calls
}

// see records a call that has ended. header is the header of HubSpot's answer.
func (a *Activity) see(o *outcome, header http.Header) {
	now := a.now()
	a.hourlyOf(o.client).count(uint64(now.Unix() / 60))
	if o.answeredBy != "hubspot" || o.portal == "" {
		return
	}
	a.seeLimit(o.portal, header, now)
	if o.status >= http.StatusBadRequest && o.status != http.StatusNotFound && o.status != statusGone {
		a.seeFailure(o, now)
	}
}

func (a *Activity) hourlyOf(client string) *hourly {
	if known, has := a.clients.Load(client); has {
		return known.(*hourly)
	}
	if a.known.Load() >= mostClients && client != OtherClients {
		return a.hourlyOf(OtherClients)
	}
	known, had := a.clients.LoadOrStore(client, new(hourly))
	if !had {
		a.known.Add(1)
	}
	return known.(*hourly)
}

// seeLimit reads the portal's limit, unless the limit was read within limitEvery.
func (a *Activity) seeLimit(portal string, header http.Header, now time.Time) {
	seen, known := a.limits.GetIfPresent(portal)
	if known && now.UnixNano() < seen.next.Load() {
		return
	}
	l := &Limit{
		Seen: now, Max: numberIn(header, "X-Hubspot-Ratelimit-Max"), Remaining: numberIn(header, "X-Hubspot-Ratelimit-Remaining"),
		Daily: numberIn(header, "X-Hubspot-Ratelimit-Daily"), DailyRemaining: numberIn(header, "X-Hubspot-Ratelimit-Daily-Remaining"),
		Interval: time.Duration(max(0, numberIn(header, "X-Hubspot-Ratelimit-Interval-Milliseconds"))) * time.Millisecond,
	}
	if l.Remaining < 0 && l.DailyRemaining < 0 {
		return // answers to searches and errors have no limit
	}
	if !known {
		seen, _ = a.limits.SetIfAbsent(portal, &limitSeen{})
	}
	seen.next.Store(now.Add(limitEvery).UnixNano())
	seen.limit.Store(l)
}

// numberIn returns the number in a header field, or -1 if the field has no number.
func numberIn(header http.Header, name string) int {
	n, err := strconv.ParseUint(first(header, name), 10, 31)
	if err != nil {
		return -1
	}
	return int(n)
}

func (a *Activity) seeFailure(o *outcome, now time.Time) {
	known, has := a.failing.GetIfPresent(o.portal)
	if !has {
		known, _ = a.failing.SetIfAbsent(o.portal, &failures{})
	}
	f := Failure{
		At: now, Client: o.client, Method: wire.Printable(loggedMethod(o.method)), Path: strings.Clone(wire.Printable(loggedPath(o.path))),
		Status: o.status, Category: o.problem, Correlation: wire.Printable(o.correlation),
	}
	f.Path, f.Correlation = f.Path[:min(len(f.Path), maxFailurePath)], f.Correlation[:min(len(f.Correlation), maxCorrelation)]
	known.mu.Lock()
	defer known.mu.Unlock()
	if len(known.last) == mostFailures {
		known.last = slices.Delete(known.last, 0, 1)
	}
	known.last = append(known.last, f)
}

// maxFailurePath and maxCorrelation are how much is kept of a path and of a
// correlation id, in bytes.
const maxFailurePath, maxCorrelation = 200, 64

// Limit returns the portal's limit as last seen; ok is false if no limit was seen.
func (a *Activity) Limit(portal string) (l Limit, ok bool) {
	if seen, known := a.limits.GetEntryQuietly(portal); known {
		if limit := seen.Value.limit.Load(); limit != nil {
			return *limit, true
		}
	}
	return Limit{}, false
}

// Failures returns the last calls of the portal that HubSpot has answered with an
// error, the newest first. Calls that HubSpot has answered with 404 are left out.
func (a *Activity) Failures(portal string) []Failure {
	known, has := a.failing.GetEntryQuietly(portal)
	if !has {
		return nil
	}
	known.Value.mu.Lock()
	defer known.Value.mu.Unlock()
	all := slices.Clone(known.Value.last)
	slices.Reverse(all)
	return all
}

// Clients returns the clients with calls in the last hour. The client with the most calls
// comes first.
func (a *Activity) Clients() []ClientCalls {
	minute := uint64(a.now().Unix() / 60)
	var all []ClientCalls
	a.clients.Range(func(name, calls any) bool {
		if n := calls.(*hourly).sum(minute); n > 0 {
			all = append(all, ClientCalls{name.(string), n})
		}
		return true
	})
	slices.SortFunc(all, func(x, y ClientCalls) int {
		if x.Calls != y.Calls {
			return int(y.Calls - x.Calls)
		}
		return strings.Compare(x.Client, y.Client)
	})
	return all
}
