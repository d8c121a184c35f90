package tokens_test

import (
	"maps"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/redistest"
	"hubspot-auth-proxy/tokens/store"
	"hubspot-auth-proxy/tokens/testkit"
)

// samples are the values of metrics by their names without prefix, such as renewals_total{renewed}.
// The value of a histogram is its count.
type samples map[string]float64

// scrape returns all metrics of the registry.
func scrape(t *testing.T, registry *prometheus.Registry) samples {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := make(samples)
	for _, family := range families {
		name, found := strings.CutPrefix(family.GetName(), "hubspot_auth_proxy_")
		if !found || family.GetHelp() == "" {
			t.Errorf("%s has no prefix or no help", family.GetName())
		}
		for _, m := range family.GetMetric() {
			key := name
			for _, label := range m.GetLabel() {
				key += "{" + label.GetName() + "=" + label.GetValue() + "}"
			}
			key = strings.Replace(key, "outcome=", "", 1) // no other label is expected
			all[key] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return all
}

func TestAllMetricsExistFromTheStart(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client, registry := dial(t, server), prometheus.NewRegistry()
	server.Kill()
	newSource(t, newHub(t), tokens.Options{Redis: client, Metrics: registry})
	want := samples{
		"renewals_total{renewed}": 0, "renewals_total{adopted}": 0, "renewals_total{ended}": 0,
		"renewals_total{refused}": 0, "renewals_total{failed}": 0, "renewal_seconds": 0,
		"token_calls_total{ok}": 0, "token_calls_total{ended}": 0, "token_calls_total{refused}": 0,
		"token_calls_total{throttled}": 0, "token_calls_total{failed}": 0, "token_call_seconds": 0,
		"redis_calls_total": 0, "redis_errors_total": 0, "redis_up": 0,
		"cached_portals": 0, "ended_grants": 0, "unsaved_portals": 0,
		"portals{state=active}": 0, "portals{state=ended}": 0, "portals{state=unusable}": 0, "portals{state=rejected}": 0,
	}
	if diff := cmp.Diff(want, scrape(t, registry)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// counted is a source and its metrics.
type counted struct {
	*tokens.Source
	other    *tokens.Source // uses the same Redis and other metrics
	hub      *hubspottest.Server
	now      *clock
	answers  *gate // the gate of the token endpoint's answers to the source
	lock     func() int64
	registry *prometheus.Registry
}

func newCounted(t *testing.T, connect connector) counted {
	t.Helper()
	c := counted{hub: newHub(t), now: newClock(), answers: &gate{}, registry: prometheus.NewRegistry()}
	client := connect(t)
	c.Source = newSource(t, c.hub, tokens.Options{Redis: client, Now: c.now.now, Metrics: c.registry, App: lateApp(t, c.hub, c.answers)})
	c.other = newSource(t, c.hub, tokens.Options{Redis: connect(t), Now: c.now.now, Metrics: prometheus.NewRegistry()})
	c.lock = counter(client, lockKey).Load
	listening(t, client, 2)
	return c
}

// asking returns a renewal that HubSpot has answered and whose answer waits at the gate.
func (c counted) asking(t *testing.T) <-chan result {
	t.Helper()
	c.answers.close()
	call := later(func() (*tokens.Credential, error) { return c.Credential(t.Context(), portalID) })
	testkit.Eventually(t, "the answer is held up", func() bool { return c.answers.held.Load() == 1 })
	return call
}

func TestEachRenewalAndTokenCallIsCountedOnceByItsOutcome(t *testing.T) {
	t.Parallel()
	failing := func(b hubspottest.TokenBehaviour) func(*testing.T, counted) {
		return func(t *testing.T, c counted) {
			seed(t, c.Source, c.hub, portalID)
			c.hub.SetToken(b)
			for range 3 { // the following calls find a pause, and are not renewals
				if !answers(t, c.Source, portalID, &tokens.UnavailableError{}) {
					t.Fatal("not an UnavailableError")
				}
			}
		}
	}
	for name, tt := range map[string]struct {
		do   func(*testing.T, counted)
		want samples // without those of time and of Redis
	}{
		"a portal that is not connected": {func(t *testing.T, c counted) {
			if !answers(t, c.Source, "1", tokens.ErrNotConnected) {
				t.Error("it is connected")
			}
		}, samples{}},
		"a static token": {func(t *testing.T, c counted) {
			put(t, c.Source, portalID, tokens.AccessToken, "x")
			get(t, c.Source, portalID)
		}, samples{"cached_portals": 1}},
		"renewed, for many requests": {func(t *testing.T, c counted) {
			seed(t, c.Source, c.hub, portalID)
			for _, r := range together(100, func() (*tokens.Credential, error) { return c.Credential(t.Context(), portalID) }) {
				if r.err != nil {
					t.Fatal(r.err)
				}
			}
		}, samples{"renewals_total{renewed}": 1, "token_calls_total{ok}": 1, "cached_portals": 1}},
		"removed": {func(t *testing.T, c counted) {
			seed(t, c.Source, c.hub, portalID)
			get(t, c.Source, portalID)
			if err := c.Remove(t.Context(), portalID, "test"); err != nil {
				t.Fatal(err)
			}
		}, samples{"renewals_total{renewed}": 1, "token_calls_total{ok}": 1}},
		"removed while HubSpot is asked": {func(t *testing.T, c counted) {
			seed(t, c.Source, c.hub, portalID)
			call := c.asking(t)
			if err := c.other.Remove(t.Context(), portalID, "test"); err != nil {
				t.Fatal(err)
			}
			c.answers.open()
			if r := await(t, call); !isError(t, r.err, tokens.ErrNotConnected) {
				t.Error(r.err)
			}
		}, samples{"token_calls_total{ok}": 1}},
		"the grant is ended": {func(t *testing.T, c counted) {
			seed(t, c.Source, c.hub, portalID)
			c.hub.Disconnect(portalID)
			for range 3 {
				if !answers(t, c.Source, portalID, &tokens.EndedError{}) {
					t.Fatal("not an EndedError")
				}
			}
		}, samples{"renewals_total{ended}": 1, "token_calls_total{ended}": 1, "cached_portals": 1, "ended_grants": 1}},
		"connected again while HubSpot is asked": {func(t *testing.T, c counted) {
			seed(t, c.Source, c.hub, portalID)
			c.hub.Disconnect(portalID)
			call := c.asking(t)
			seed(t, c.other, c.hub, portalID)
			c.answers.open()
			if r := await(t, call); r.err != nil {
				t.Error(r.err)
			}
		}, samples{"renewals_total{renewed}": 1, "token_calls_total{ended}": 1, "token_calls_total{ok}": 1, "cached_portals": 1}},
		"given another credential while HubSpot is asked": {func(t *testing.T, c counted) {
			seed(t, c.Source, c.hub, portalID)
			c.hub.Disconnect(portalID)
			call := c.asking(t)
			put(t, c.other, portalID, tokens.AccessToken, "x")
			c.answers.open()
			if r := await(t, call); r.err != nil {
				t.Error(r.err)
			}
		}, samples{"renewals_total{adopted}": 1, "token_calls_total{ended}": 1, "cached_portals": 1}},
		"another portal's token": {func(t *testing.T, c counted) {
			put(t, c.Source, portalID, tokens.OAuth, c.hub.Connect("1"))
			if !answers(t, c.Source, portalID, &tokens.UnavailableError{}) {
				t.Error("not an UnavailableError")
			}
		}, samples{"renewals_total{failed}": 1, "token_calls_total{ok}": 1, "cached_portals": 1}},
		"the app is refused": {failing(hubspottest.TokenBehaviour{Code: "BAD_CLIENT_SECRET"}),
			samples{"renewals_total{refused}": 1, "token_calls_total{refused}": 1, "cached_portals": 1}},
		"throttled": {failing(hubspottest.TokenBehaviour{Status: 429, RetryAfter: "9"}),
			samples{"renewals_total{failed}": 1, "token_calls_total{throttled}": 1, "cached_portals": 1}},
		"an error of HubSpot's": {failing(hubspottest.TokenBehaviour{Status: 503}),
			samples{"renewals_total{failed}": 1, "token_calls_total{failed}": 1, "cached_portals": 1}},
		"no answer": {failing(hubspottest.TokenBehaviour{Reset: true}),
			samples{"renewals_total{failed}": 1, "token_calls_total{failed}": 1, "cached_portals": 1}},
	} {
		t.Run(name, func(t *testing.T) {
			onEachRedis(t, func(t *testing.T, connect connector) {
				c := newCounted(t, connect)
				tt.do(t, c)
				got := scrape(t, c.registry)
				// A lock that is held, a script that is not known and a key that
				// is missing are no errors.
				if got["redis_calls_total"] == 0 || got["redis_errors_total"] != 0 || got["redis_up"] != 1 {
					t.Errorf("Redis: %v calls, %v errors, up %v", got["redis_calls_total"], got["redis_errors_total"], got["redis_up"])
				}
				if all := total(got, "renewals_total"); got["renewal_seconds"] != all {
					t.Errorf("the times of %v renewals, want %v", got["renewal_seconds"], all)
				}
				if all := total(got, "token_calls_total"); got["token_call_seconds"] != all {
					t.Errorf("the times of %v token calls, want %v", got["token_call_seconds"], all)
				}
				maps.DeleteFunc(got, func(name string, value float64) bool {
					return value == 0 || strings.HasPrefix(name, "redis_") || strings.HasPrefix(name, "portals{") || strings.HasSuffix(name, "_seconds")
				})
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("-want +got\n%s", diff)
				}
			})
		})
	}
}

// total returns the sum of a counter over its labels.
func total(all samples, name string) (sum float64) {
	for key, value := range all {
		if strings.HasPrefix(key, name+"{") {
			sum += value
		}
	}
	return sum
}

func TestARenewalByAnotherReplicaIsCountedAsAdopted(t *testing.T) {
	onEachRedis(t, func(t *testing.T, connect connector) {
		c := newCounted(t, connect)
		theirs := prometheus.NewRegistry()
		var g gate
		other := newSource(t, c.hub, tokens.Options{Redis: connect(t), Now: c.now.now, Metrics: theirs, App: lateApp(t, c.hub, &g)})
		seed(t, c.Source, c.hub, portalID)
		g.close()
		call := later(func() (*tokens.Credential, error) { return other.Credential(t.Context(), portalID) })
		testkit.Eventually(t, "the other one is renewing", func() bool { return g.held.Load() == 1 })
		before := c.lock()
		waiting := later(func() (*tokens.Credential, error) { return c.Credential(t.Context(), portalID) })
		testkit.Eventually(t, "it waits for the lock", func() bool { return c.lock() >= before+3 })
		g.open()
		if a, b := await(t, call), await(t, waiting); a.err != nil || b.err != nil || !a.credential.Secret.Equal(b.credential.Secret) {
			t.Errorf("%v, %v", a.err, b.err)
		}
		ours, others := scrape(t, c.registry), scrape(t, theirs)
		if n := total(ours, "token_calls_total"); n != 0 || ours["renewals_total{adopted}"] != 1 || total(ours, "renewals_total") != 1 {
			t.Errorf("%v token calls, renewals: %v", n, ours)
		}
		if others["renewals_total{renewed}"] != 1 || total(others, "renewals_total") != 1 {
			t.Errorf("the other one's renewals: %v", others)
		}
		if n := ours["redis_errors_total"]; n != 0 {
			t.Errorf("%v errors of Redis for a lock that was held", n)
		}
	})
}

func TestMetricsReportThatRedisIsUnreachableAndAnswersAgain(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Persist())
	hub, now, registry := newHub(t), newClock(), prometheus.NewRegistry()
	s := newSource(t, hub, tokens.Options{Redis: dial(t, server), Now: now.now, Metrics: registry})
	seed(t, s, hub, portalID)
	get(t, s, portalID)
	if got := scrape(t, registry); got["redis_up"] != 1 || got["redis_errors_total"] != 0 {
		t.Fatalf("before: %v", got)
	}
	server.Kill()
	now.advance(tokenLife)
	get(t, s, portalID) // renewed without Redis
	got := scrape(t, registry)
	if got["redis_up"] != 0 || got["redis_errors_total"] == 0 || got["unsaved_portals"] != 1 || got["renewals_total{renewed}"] != 2 {
		t.Errorf("while Redis is unreachable: %v", got)
	}
	testkit.Eventually(t, "errors grow", func() bool { return scrape(t, registry)["redis_errors_total"] > got["redis_errors_total"] })
	server.Restart()
	testkit.Eventually(t, "all is stored", func() bool {
		got := scrape(t, registry)
		return got["redis_up"] == 1 && got["unsaved_portals"] == 0
	})
}

func TestEachCommandToRedisIsCountedOnce(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client, registry := dial(t, server), prometheus.NewRegistry()
	s := newSource(t, newHub(t), tokens.Options{Redis: client, Metrics: registry})
	newSource(t, newHub(t), tokens.Options{Redis: client, Metrics: prometheus.NewRegistry()}) // this source has metrics of its own
	testkit.Eventually(t, "all is quiet", func() bool { return s.Epoch() != "" })
	listening(t, client, 2)
	for _, tt := range []struct {
		name          string
		do            func()
		calls, errors float64
	}{
		{"a command", func() { client.Get(t.Context(), "hubspot:x") }, 1, 0},
		{"on a new connection", func() {
			server.Client(t).ClientKillByFilter(t.Context(), "TYPE", "normal", "SKIPME", "yes")
			client.Get(t.Context(), "hubspot:x")
		}, 1, 0},
		{"a pipeline", func() {
			_, _ = client.Pipelined(t.Context(), func(pipe redis.Pipeliner) error {
				pipe.Set(t.Context(), "hubspot:x", "", 0)
				pipe.Get(t.Context(), "hubspot:y")
				pipe.HGetAll(t.Context(), "hubspot:x") // fails, because the key has another type
				return nil
			})
		}, 3, 1},
		{"what a server need not tell", func() { _ = store.Check(t.Context(), client) }, 1, 0},
	} {
		var calls, errors float64
		var after map[string]float64
		for range 50 { // the source itself also sends commands from time to time
			before := scrape(t, registry)
			tt.do()
			after = scrape(t, registry)
			calls, errors = after["redis_calls_total"]-before["redis_calls_total"], after["redis_errors_total"]-before["redis_errors_total"]
			if calls == tt.calls && errors == tt.errors {
				break
			}
		}
		if calls != tt.calls || errors != tt.errors {
			t.Errorf("%s: %v calls and %v errors are counted, want %v and %v", tt.name, calls, errors, tt.calls, tt.errors)
		}
		if after["redis_up"] != 1 {
			t.Errorf("%s: Redis is reported as unreachable", tt.name)
		}
	}
}

// The first ten portals have lines of their own, and the others share a line.
func TestErrorsOfManyPortalsAreLoggedInFewLinesWithTheirNumber(t *testing.T) {
	t.Parallel()
	const portals, atOnce, line = 200, 11, "a portal's access token could not be renewed"
	client, end := store.Embedded()
	t.Cleanup(end)
	hub := newHub(t)
	hub.SetToken(hubspottest.TokenBehaviour{Status: 503, RetryAfter: "60"})
	s, log := watched(t, hub, tokens.Options{Redis: client})
	for i := range portals {
		seed(t, s, hub, strconv.Itoa(i+1))
	}
	begin := time.Now()
	var all sync.WaitGroup
	for i := range portals {
		all.Go(func() {
			if !answers(t, s, strconv.Itoa(i+1), &tokens.UnavailableError{}) {
				t.Error("not an UnavailableError")
			}
		})
	}
	all.Wait()
	intervals := int(time.Since(begin) / (10 * time.Second))
	if n := log.lines(line); n < atOnce || n > atOnce*(1+intervals) {
		t.Errorf("%d lines in %v", n, time.Since(begin))
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if lines, logged := log.lines(line), log.logged(line); lines > atOnce*(2+intervals) || logged != portals {
		t.Errorf("%d lines report %d, want %d", lines, logged, portals)
	}
	if n := log.lines("portal was set"); n != portals {
		t.Errorf("%d facts were logged, want %d", n, portals)
	}
}
