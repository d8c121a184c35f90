//go:build unix

package budget_test

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/redistest"
	"hubspot-auth-proxy/tokens/testkit"
)

// The long forms of the tests in this file last more than a minute each:
//
//	go test -run Fleet ./proxy/budget -v -fleet -parallel 8 -timeout 0
var long = flag.Bool("fleet", false, "run the long forms of the tests with real processes, at HubSpot's own limits")

// fleet is processes of the program that share a Redis, in front of a fake HubSpot.
type fleet struct {
	t        *testing.T
	hub      *hubspottest.Server
	redis    *redistest.Server
	binary   string
	settings []string
	programs []*testkit.Program
	client   *http.Client

	mu       sync.Mutex
	statuses map[string]int // of calls, or what was wrong
	waits    map[string][]time.Duration
}

const fleetToken = "pat-na1-" + hubspottest.Canary

// startFleet starts n processes that serve portals 1 to p, for the clients bulk and slow.
func startFleet(t *testing.T, n, p int, limits hubspottest.Limits, settings ...string) *fleet {
	t.Helper()
	f := &fleet{
		t: t, hub: hubspottest.NewServer(), redis: redistest.Start(t), binary: testkit.Binary(),
		statuses: make(map[string]int), waits: make(map[string][]time.Duration),
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1000}, Timeout: 2 * time.Minute},
	}
	t.Cleanup(f.hub.Close)
	t.Cleanup(f.client.CloseIdleConnections)
	var seed strings.Builder
	seed.WriteString("clients:\n- {name: bulk, key: hap_bulk, portals: ['*']}\n- {name: slow, key: hap_slow, portals: ['*']}\n- {name: daily, key: hap_daily, portals: ['*'], daily_limit: 1000}\nportals:\n")
	for i := range p {
		portal, token := fmt.Sprint(i+1), fmt.Sprintf("%s-%d", fleetToken, i+1)
		f.hub.SetAccessToken(portal, token)
		f.hub.SetLimits(portal, limits)
		fmt.Fprintf(&seed, "- {id: %s, access_token: %s}\n", portal, token)
	}
	file := filepath.Join(t.TempDir(), "seed.yaml")
	if err := os.WriteFile(file, []byte(seed.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	f.settings = append([]string{"UPSTREAM_URL=" + f.hub.URL, "REDIS_URL=" + f.redis.URL(), "SEED_FILE=" + file, "ACCESS_LOG=false", "ALLOW_ANONYMOUS=false"}, settings...)
	for range n {
		f.programs = append(f.programs, testkit.Launch(t, f.binary, f.settings...))
	}
	return f
}

// call sends one call by a client to a process, and notes what came of it.
func (f *fleet) call(p *testkit.Program, client, portal, method, path string) {
	began := time.Now()
	what := f.answer(p, client, portal, method, path)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.statuses[what]++
	f.waits[client] = append(f.waits[client], time.Since(began))
}

func (f *fleet) answer(p *testkit.Program, client, portal, method, path string) string {
	request, err := http.NewRequest(method, "http://"+p.Address+"/portals/"+portal+path, strings.NewReader(""))
	if err != nil {
		f.t.Error(err)
		return "error"
	}
	request.Header.Set("Authorization", "Bearer hap_"+client)
	response, err := f.client.Do(request)
	if err != nil {
		return "broken"
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	return fmt.Sprint(response.StatusCode)
}

// work lets n workers of a client call all processes in turns, until ctx ends, each with
// a pause between its calls.
func (f *fleet) work(ctx context.Context, n int, client, portal, method, path string, pause time.Duration) (wait func()) {
	var working sync.WaitGroup
	for i := range n {
		working.Go(func() {
			for ctx.Err() == nil {
				f.call(f.programs[i%len(f.programs)], client, portal, method, path)
				i++ // to the next one
				if pause > 0 {
					select {
					case <-ctx.Done():
					case <-time.After(pause):
					}
				}
			}
		})
	}
	return working.Wait
}

// seen returns how often calls ended so.
func (f *fleet) seen(what string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.statuses[what]
}

// quantile returns how long a client's calls took.
func (f *fleet) quantile(client string, q float64) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	waits := slices.Sorted(slices.Values(f.waits[client]))
	if len(waits) == 0 {
		return 0
	}
	return waits[int(q*float64(len(waits)-1))]
}

// taken returns how many calls HubSpot has taken for the first p portals, and how
// many it has answered 429.
func (f *fleet) taken(p int) (taken, refused int) {
	for i := range p {
		portal := fmt.Sprint(i + 1)
		refused += f.hub.RateLimited(portal)
		taken += f.hub.RequestsFor(portal) - f.hub.RateLimited(portal)
	}
	return taken, refused
}

// wantUsed wants that what the limits allow was used, without a 429 at a client.
func (f *fleet) wantUsed(p, allowed int) {
	f.t.Helper()
	taken, refused := f.taken(p)
	f.t.Logf("%d calls of the %d that are allowed (%.1f %%), %d answered 429 by HubSpot (1 in %.0f), %d at a client; %v",
		taken, allowed, 100*float64(taken)/float64(allowed), refused, float64(taken)/float64(max(1, refused)), f.seen("429"), f.statuses)
	if f.seen("429") > 0 || taken*100 < allowed*97 || refused*200 > taken {
		f.t.Error("that is not what is promised")
	}
}

// onlyLong skips the short forms of what other tests have in one process.
func onlyLong(t *testing.T) {
	t.Helper()
	if !*long {
		t.Skip("only with -fleet")
	}
	t.Parallel()
}

var hubSpots = hubspottest.Limits{Burst: 100, Interval: 10 * time.Second, Search: 5}

const anyPath, searchPath = "/crm/v3/objects/contacts", "/crm/v3/objects/contacts/search"

func TestAFleetUsesTheLimitUp(t *testing.T) {
	onlyLong(t)
	for name, search := range map[string]bool{"burst": false, "search": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := startFleet(t, 4, 1, hubSpots, "RATE_LIMIT_WAIT=60s")
			method, path, allowed := "GET", anyPath, 600
			if search {
				method, path, allowed = "POST", searchPath, 300
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			wait := f.work(ctx, 40, "bulk", "1", method, path, 0)
			<-ctx.Done()
			f.wantUsed(1, allowed)
			wait()
		})
	}
	t.Run("without the setting", func(t *testing.T) {
		t.Parallel()
		f := startFleet(t, 4, 1, hubSpots)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		f.work(ctx, 40, "bulk", "1", "GET", anyPath, 100*time.Millisecond)() // for they would be called thousands of times
		t.Logf("%v at clients", f.statuses)
	})
}

func TestAFleetUsesTheLimitsOf50PortalsUp(t *testing.T) {
	onlyLong(t)
	const portals = 50
	f := startFleet(t, 4, portals, hubSpots, "RATE_LIMIT_WAIT=60s")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var waits []func()
	for i := range portals {
		waits = append(waits, f.work(ctx, 8, "bulk", fmt.Sprint(i+1), "GET", anyPath, 0))
	}
	<-ctx.Done()
	f.wantUsed(portals, portals*600)
	for _, wait := range waits {
		wait()
	}
}

func TestAFleetLeavesAnotherProgramItsHalf(t *testing.T) {
	onlyLong(t)
	f := startFleet(t, 4, 1, hubSpots, "RATE_LIMIT_WAIT=60s")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	wait := f.work(ctx, 40, "bulk", "1", "GET", anyPath, 0)
	served, refused := 0, 0
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for ctx.Err() == nil {
		request, _ := http.NewRequest("GET", f.hub.URL+anyPath, nil)
		request.Header.Set("Authorization", "Bearer "+fleetToken+"-1")
		if response, err := f.client.Do(request); err == nil {
			response.Body.Close()
			if response.StatusCode == 200 {
				served++
			} else {
				refused++
			}
		}
		<-ticker.C
	}
	taken, rejected := f.taken(1)
	t.Logf("HubSpot took %d calls, %d of them another program's, whose calls it refused %d times; %d 429 in all; at clients %v", taken, served, refused, rejected, f.statuses)
	if f.seen("429") > 0 {
		t.Error("a client was answered 429")
	}
	wait()
}

func TestAFleetServesTheClientThatCallsOnceASecond(t *testing.T) {
	onlyLong(t)
	f := startFleet(t, 4, 1, hubSpots, "RATE_LIMIT_WAIT=60s")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	bulk := f.work(ctx, 200, "bulk", "1", "GET", anyPath, 0)
	slow := f.work(ctx, 1, "slow", "1", "GET", anyPath, time.Second)
	<-ctx.Done()
	slow()
	t.Logf("the client that calls once a second: %d calls, %v in the median, %v at the 95th percentile, %v at most; the other one %v in the median; %v",
		len(f.waits["slow"]), f.quantile("slow", .5), f.quantile("slow", .95), f.quantile("slow", 1), f.quantile("bulk", .5), f.statuses)
	if f.seen("429") > 0 || f.quantile("slow", .95) >= time.Second {
		t.Error("that is not what is promised")
	}
	bulk()
}

func TestAFleetBearsFaults(t *testing.T) {
	onlyLong(t)
	f := startFleet(t, 4, 1, hubSpots, "RATE_LIMIT_WAIT=90s")
	ctx, cancel := context.WithTimeout(t.Context(), 125*time.Second)
	defer cancel()
	wait := f.work(ctx, 40, "bulk", "1", "GET", anyPath, 0)
	used := func(what string, settle, lasts time.Duration, least int) {
		time.Sleep(settle) // both sleeps are periods of the load, not waits for something
		before, refusedBefore := f.taken(1)
		time.Sleep(lasts)
		after, refused := f.taken(1)
		t.Logf("%s: %.1f calls a second, %d answered 429 by HubSpot meanwhile, %d since the beginning", what, float64(after-before)/lasts.Seconds(), refused-refusedBefore, refused)
		if after-before < least {
			t.Errorf("%s: %d calls in %v", what, after-before, lasts)
		}
	}
	used("at first", 0, 12*time.Second, 90)
	f.programs[0].Kill()
	used("a process was killed", 3*time.Second, 10*time.Second, 90)
	f.redis.Kill()
	used("Redis is gone", 10*time.Second, 10*time.Second, 50)
	f.redis.Restart()
	used("Redis is back", 10*time.Second, 20*time.Second, 180)
	f.hub.SetLimits("1", hubspottest.Limits{Burst: 50, Interval: 10 * time.Second, Search: 5})
	used("the limit was cut to half", 15*time.Second, 20*time.Second, 90)
	cancel()
	t.Logf("at clients: %v", f.statuses)
	if f.seen("429") > 0 {
		t.Error("a client was answered 429")
	}
	wait()
}
