package proxy

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestAnActivityCountsTheLastHourOfEachClient(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	a := NewActivity(func() time.Time { return now })
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			for range 100 {
				a.see(&outcome{client: "billing"}, nil)
			}
		})
	}
	all.Wait()
	now = now.Add(59 * time.Minute)
	a.see(&outcome{}, nil)
	a.see(&outcome{client: "reporting"}, nil)
	a.see(&outcome{client: "reporting"}, nil)
	want := []ClientCalls{{"billing", 1000}, {"reporting", 2}, {"", 1}}
	if diff := cmp.Diff(want, a.Clients()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	now = now.Add(time.Minute)
	if diff := cmp.Diff(want[1:], a.Clients()); diff != "" {
		t.Errorf("an hour later, -want +got\n%s", diff)
	}
	now = now.Add(time.Hour)
	if got := a.Clients(); got != nil {
		t.Errorf("two hours later: %v", got)
	}
}

func TestAnActivityIsBounded(t *testing.T) {
	a := NewActivity(nil)
	header := http.Header{"X-Hubspot-Ratelimit-Remaining": {"1"}}
	for i := range 2 * mostLimits {
		status := http.StatusOK
		if i < 2*mostFailing {
			status = http.StatusBadRequest
		}
		a.see(&outcome{client: fmt.Sprint(i), portal: fmt.Sprint(i), answeredBy: "hubspot", status: status}, header)
	}
	clients := a.Clients()
	if len(clients) != mostClients+1 || clients[0] != (ClientCalls{OtherClients, 2*mostLimits - mostClients}) {
		t.Errorf("%d clients, first %v", len(clients), clients[0])
	}
	a.limits.CleanUp()
	a.failing.CleanUp()
	if limits, failing := a.limits.EstimatedSize(), a.failing.EstimatedSize(); limits > mostLimits || failing > mostFailing {
		t.Errorf("%d limits, %d portals with failures", limits, failing)
	}
	for range 3 * mostFailures {
		a.see(&outcome{portal: "1", answeredBy: "hubspot", status: 400, path: strings.Repeat("/x", 5000), correlation: strings.Repeat("c", 5000)}, header)
	}
	all := a.Failures("1")
	if len(all) != mostFailures || len(all[0].Path) > maxFailurePath || len(all[0].Correlation) > maxCorrelation {
		t.Errorf("%d failures, %+v", len(all), all[0])
	}
}

func TestAnActivityHasTheLimitAsLastSeen(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	a := NewActivity(func() time.Time { return now })
	see := func(status int, header http.Header) {
		a.see(&outcome{portal: "1", answeredBy: "hubspot", status: status}, header)
	}
	see(200, http.Header{}) // as of a search
	if l, seen := a.Limit("1"); seen {
		t.Errorf("%+v", l)
	}
	see(200, http.Header{"X-Hubspot-Ratelimit-Max": {"190"}, "X-Hubspot-Ratelimit-Remaining": {"189"}, "X-Hubspot-Ratelimit-Interval-Milliseconds": {"10000"}})
	want := Limit{Seen: now, Max: 190, Remaining: 189, Interval: 10 * time.Second, Daily: -1, DailyRemaining: -1}
	if l, _ := a.Limit("1"); l != want {
		t.Errorf("%+v, want %+v", l, want)
	}
	now = now.Add(limitEvery)
	daily := http.Header{"X-Hubspot-Ratelimit-Daily": {"250000"}, "X-Hubspot-Ratelimit-Daily-Remaining": {"7"}, "X-Hubspot-Ratelimit-Remaining": {"-5"}, "X-Hubspot-Ratelimit-Max": {"99999999999999999999"}}
	see(200, daily)
	want = Limit{Seen: now, Max: -1, Remaining: -1, Daily: 250000, DailyRemaining: 7}
	see(200, http.Header{"X-Hubspot-Ratelimit-Remaining": {"3"}}) // within the same second
	see(404, http.Header{})
	if l, _ := a.Limit("1"); l != want {
		t.Errorf("%+v, want %+v", l, want)
	}
}
