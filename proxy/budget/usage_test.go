//go:build unix

package budget_test

import (
	"context"
	"encoding/json"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"

	"hubspot-auth-proxy/proxy/budget"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/testkit"
)

// usage runs the command, and returns the calls of each portal.
func (f *fleet) usage() map[string]int {
	f.t.Helper()
	command := exec.Command(f.binary, "usage", "--days", "2", "--json") // in case of midnight
	command.Env = append(slices.Clone(f.settings), "GORACE=atexit_sleep_ms=0")
	printed, err := command.Output()
	if err != nil {
		f.t.Fatalf("%v: %s", err, printed)
	}
	var all []budget.DayUsage
	if err := json.Unmarshal(printed, &all); err != nil {
		f.t.Fatal(err)
	}
	calls := make(map[string]int)
	for _, one := range all {
		if one.Client != "bulk" {
			f.t.Errorf("calls of %q", one.Client)
		}
		calls[one.Portal] += int(one.Calls)
	}
	return calls
}

func TestUsageOfAFleetIsWhatHubSpotCounts(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 3, 2, hubspottest.Limits{})
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	first, second := f.work(ctx, 6, "bulk", "1", "GET", anyPath, time.Millisecond), f.work(ctx, 6, "bulk", "2", "POST", searchPath, time.Millisecond)
	first()
	second()
	for _, p := range f.programs {
		if status := p.Terminate(); status != 0 {
			t.Errorf("the program ends with status %d", status)
		}
	}
	got := f.usage()
	for _, portal := range []string{"1", "2"} {
		if want := f.hub.RequestsFor(portal); got[portal] != want || want < 50 {
			t.Errorf("%d calls are counted for portal %s, HubSpot has seen %d", got[portal], portal, want)
		}
	}
}

// A killed process loses the calls that it has not added to Redis, which it does every
// three seconds. Each process of the test serves a portal of its own.
func TestUsageLacksOnlyTheLastSecondsOfAProcessThatIsKilled(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 2, 2, hubspottest.Limits{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var working sync.WaitGroup
	for i, portal := range []string{"1", "2"} {
		for range 3 {
			working.Go(func() {
				for ctx.Err() == nil {
					f.call(f.programs[i], "bulk", portal, "GET", anyPath)
					<-time.After(10 * time.Millisecond)
				}
			})
		}
	}
	redis := f.redis.Client(t)
	stored := func() (calls int) {
		all, err := budget.ReadUsage(t.Context(), redis, "hubspot:", 2, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		for _, one := range all {
			if one.Portal == "1" {
				calls += int(one.Calls)
			}
		}
		return calls
	}
	const flush, late = 3 * time.Second, 2 * time.Second // the machine is busy
	testkit.Within(t, flush+late, "the process adds its calls", func() bool { return stored() > 0 })
	added, seen := stored(), f.hub.RequestsFor("1")
	testkit.Within(t, flush+late, "the process adds those that follow", func() bool { return stored() > added })
	testkit.Eventually(t, "there are calls that it has not added", func() bool { return f.hub.RequestsFor("1") > stored()+20 })
	f.programs[0].Kill()
	cancel()
	working.Wait()
	if status := f.programs[1].Terminate(); status != 0 {
		t.Errorf("the other program ends with status %d", status)
	}
	got := f.usage()
	sent := f.hub.RequestsFor("1")
	t.Logf("%d calls of the killed process are counted of %d; %d were sent when it had added the first %d", got["1"], sent, seen, added)
	if got["1"] < seen || got["1"] > sent {
		t.Errorf("%d calls of the killed process are counted of %d, %d of which were sent more than %v before", got["1"], sent, seen, flush)
	}
	if want := f.hub.RequestsFor("2"); got["2"] != want {
		t.Errorf("%d calls of the other one are counted, HubSpot has seen %d", got["2"], want)
	}
}

func TestADailyLimitIsKeptByAFleet(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 5, 1, hubspottest.Limits{})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	wait := f.work(ctx, 20, "daily", "1", "GET", anyPath, 0)
	testkit.Within(t, 20*time.Second, "the limit is used up", func() bool { return f.seen("429") > 100 })
	cancel()
	wait()
	if n := f.hub.Requests(); n > 1010 || n < 990 || f.seen("200") != n {
		t.Errorf("%d calls were sent: %v", n, f.statuses)
	}
}
