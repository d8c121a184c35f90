package activity

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"
)

func TestALogIsBounded(t *testing.T) {
	l := New(nil)
	header := http.Header{"X-Hubspot-Ratelimit-Remaining": {"1"}}
	for i := range 2 * mostLimits {
		status := http.StatusOK
		if i < 2*mostFailing {
			status = http.StatusBadRequest
		}
		l.Add(Call{Client: fmt.Sprint(i), Portal: fmt.Sprint(i), Status: status, Answer: header})
	}
	clients := l.Clients()
	if len(clients) != mostClients+1 || clients[0] != (ClientCalls{OtherClients, 2*mostLimits - mostClients}) {
		t.Errorf("%d clients, first %v", len(clients), clients[0])
	}
	l.limits.CleanUp()
	l.failing.CleanUp()
	if limits, failing := l.limits.EstimatedSize(), l.failing.EstimatedSize(); limits > mostLimits || failing > mostFailing {
		t.Errorf("%d limits, %d portals with failures", limits, failing)
	}
	for range 3 * mostFailures {
		l.Add(Call{Portal: "1", Status: 400, Path: strings.Repeat("/x", 5000), Answer: header, Correlation: strings.Repeat("c", 5000)})
	}
	all := l.Failures("1")
	if len(all) != mostFailures || len(all[0].Path) > maxPath || len(all[0].Correlation) > maxCorrelation {
		t.Errorf("%d failures, %+v", len(all), all[0])
	}
}

func TestOnlyWhatIsNewIsAllocated(t *testing.T) {
	l := New(func() time.Time { return time.Unix(noon, 0) })
	for name, c := range map[string]Call{
		"a call":           {Client: "billing", Portal: "1", Status: 200, Answer: http.Header{"X-Hubspot-Ratelimit-Remaining": {"1"}}},
		"a search":         {Client: "billing", Portal: "2", Status: 200, Answer: http.Header{}},
		"a refused call":   {Client: "billing", Portal: "1", Status: 403, Refused: true},
		"an anonymous one": {Portal: "1", Status: 404, Answer: http.Header{"X-Hubspot-Ratelimit-Remaining": {"1"}}},
	} {
		if n := testing.AllocsPerRun(100, func() { l.Add(c) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func TestTheLastHourOfEachClientIsCounted(t *testing.T) {
	now := time.Unix(noon, 0)
	l := New(func() time.Time { return now })
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			for range 100 {
				l.Add(Call{Client: "billing"})
			}
		})
	}
	all.Wait()
	now = now.Add(59 * time.Minute)
	l.Add(Call{})
	l.Add(Call{Client: "reporting"})
	l.Add(Call{Client: "reporting"})
	want := []ClientCalls{{"billing", 1000}, {"reporting", 2}, {"", 1}}
	if diff := cmp.Diff(want, l.Clients()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	now = now.Add(time.Minute)
	if diff := cmp.Diff(want[1:], l.Clients()); diff != "" {
		t.Errorf("an hour later, -want +got\n%s", diff)
	}
	now = now.Add(time.Hour)
	if got := l.Clients(); got != nil {
		t.Errorf("two hours later: %v", got)
	}
}

func TestNoClientIsLostWhenManyAreNew(t *testing.T) {
	l := New(nil)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for i := range 2 * mostClients {
				l.Add(Call{Client: fmt.Sprint(i)})
			}
		})
	}
	all.Wait()
	var calls int64
	for _, c := range l.Clients() {
		calls += c.Calls
	}
	if n := len(l.Clients()); calls != 4*2*mostClients || n != mostClients+1 {
		t.Errorf("%d calls of %d clients", calls, n)
	}
}

func TestALimitIsKeptAsLastSeen(t *testing.T) {
	now := time.Unix(noon, 0)
	l := New(func() time.Time { return now })
	see := func(status int, header http.Header) { l.Add(Call{Portal: "1", Status: status, Answer: header}) }
	see(200, http.Header{}) // as of a search
	if limit, seen := l.Limit("1"); seen {
		t.Errorf("%+v", limit)
	}
	see(200, http.Header{"X-Hubspot-Ratelimit-Max": {"190"}, "X-Hubspot-Ratelimit-Remaining": {"189"}, "X-Hubspot-Ratelimit-Interval-Milliseconds": {"10000"}})
	want := Limit{Seen: now, Max: 190, Remaining: 189, Interval: 10 * time.Second, Daily: -1, DailyRemaining: -1}
	if limit, _ := l.Limit("1"); limit != want {
		t.Errorf("%+v, want %+v", limit, want)
	}
	now = now.Add(limitEvery)
	daily := http.Header{"X-Hubspot-Ratelimit-Daily": {"250000"}, "X-Hubspot-Ratelimit-Daily-Remaining": {"7"}, "X-Hubspot-Ratelimit-Remaining": {"-5"}, "X-Hubspot-Ratelimit-Max": {"99999999999999999999"}}
	see(200, daily)
	want = Limit{Seen: now, Max: -1, Remaining: -1, Daily: 250000, DailyRemaining: 7}
	see(200, http.Header{"X-Hubspot-Ratelimit-Remaining": {"3"}}) // within the same second
	see(404, http.Header{})
	if limit, _ := l.Limit("1"); limit != want {
		t.Errorf("%+v, want %+v", limit, want)
	}
}

func TestPortalsNearTheirDailyLimitAreCountedForADay(t *testing.T) {
	now := time.Unix(noon, 0)
	l := New(func() time.Time { return now })
	see := func(portal, limit, left string) {
		now = now.Add(limitEvery)
		header := http.Header{"X-Hubspot-Ratelimit-Remaining": {"100"}}
		for name, value := range map[string]string{"X-Hubspot-Ratelimit-Daily": limit, "X-Hubspot-Ratelimit-Daily-Remaining": left} {
			if value != "" {
				header[name] = []string{value}
			}
		}
		l.Add(Call{Portal: portal, Status: 200, Answer: header})
	}
	want := func(want int) {
		t.Helper()
		if got := l.NearDailyLimit(); got != want {
			t.Errorf("%d portals, want %d", got, want)
		}
	}
	see("1", "1000", "100")
	for _, left := range []string{"", "x", "-1"} {
		see("2", "1000", left)
	}
	see("3", "0", "0")
	want(0)
	see("1", "1000", "99")
	see("1", "1000", "98")
	see("2", "1000", "0")
	want(2)
	see("1", "", "") // as of a search
	see("1", "", "900")
	want(2)
	see("1", "1000", "900")
	want(1)
	now = now.Add(nearMemory - time.Minute)
	want(1)
	now = now.Add(time.Minute)
	want(0)
}

func TestOnlyHubSpotsErrorsAreFailures(t *testing.T) {
	now := time.Unix(noon, 0)
	l := New(func() time.Time { return now })
	answer := http.Header{}
	for _, c := range []Call{
		{Status: 500, Answer: answer},                          // of no portal
		{Portal: "1", Status: 403, Refused: true},              // the proxy's own
		{Portal: "1", Status: 302, Answer: answer},             //
		{Portal: "1", Status: 404, Answer: answer},             //
		{Portal: "1", Status: 499, Left: true, Answer: answer}, // HubSpot's answer had begun
		{Portal: "1", Status: 401, Method: "GET", Path: "/first", Answer: answer, Category: "EXPIRED_AUTHENTICATION", Correlation: "a\x9bb"},
		{Portal: "1", Status: 500, Method: "hap_canary", Path: "/oauth/v1/access-tokens/canary", Answer: answer, Client: "billing"},
	} {
		l.Add(c)
	}
	want := []Failure{
		{At: now, Client: "billing", Method: "[redacted]", Path: "/oauth/v1", Status: 500},
		{At: now, Method: "GET", Path: "/first", Status: 401, Category: "EXPIRED_AUTHENTICATION", Correlation: `a\x9bb`},
	}
	if diff := cmp.Diff(want, l.Failures("1")); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if got := l.Failures(""); got != nil {
		t.Errorf("of no portal: %v", got)
	}
}

func TestAKeptCallDoesNotKeepItsRequest(t *testing.T) {
	l := New(nil)
	request := strings.Repeat("1", 100) // whose parts the call has
	l.Add(Call{Portal: request[:20], Method: request[:3], Path: request[:5], Status: 500, Answer: http.Header{"X-Hubspot-Ratelimit-Remaining": {"1"}}, Correlation: request[:9]})
	kept := []string{l.Failures(request[:20])[0].Method, l.Failures(request[:20])[0].Path, l.Failures(request[:20])[0].Correlation}
	for portal := range l.limits.Keys() {
		kept = append(kept, portal)
	}
	for portal := range l.failing.Keys() {
		kept = append(kept, portal)
	}
	for _, text := range kept {
		if within(text, request) {
			t.Errorf("%q is a part of the request in memory", text)
		}
	}
	if len(kept) != 5 {
		t.Errorf("%d texts", len(kept))
	}
}

// within reports whether the text is in the memory of the other text.
func within(text, other string) bool {
	begin, at := uintptr(unsafe.Pointer(unsafe.StringData(other))), uintptr(unsafe.Pointer(unsafe.StringData(text)))
	return at >= begin && at < begin+uintptr(len(other))
}
