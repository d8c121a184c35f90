package proxy_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"hubspot-auth-proxy/proxy"
	"hubspot-auth-proxy/proxy/budget"
	"hubspot-auth-proxy/proxy/clients"
	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/secret"
	"hubspot-auth-proxy/tokens/store"
	"hubspot-auth-proxy/tokens/testkit"
)

// limitedRig is a proxy with a budget.
type limitedRig struct {
	*rig
	redis  redis.UniversalClient
	budget *budget.Budget
}

// startLimited starts a proxy where calls may wait so long, in front of a HubSpot that
// takes so many calls in any interval.
func startLimited(t *testing.T, wait time.Duration, limits hubspottest.Limits, set ...func(*proxy.Options)) *limitedRig {
	t.Helper()
	client, end := store.Embedded()
	t.Cleanup(end)
	l := &limitedRig{redis: client}
	l.rig = start(t, setup{redis: client, proxy: func(o *proxy.Options) {
		l.budget = budget.New(budget.Options{Redis: client, Prefix: "hubspot:", Metrics: o.Metrics})
		o.Budget, o.RateLimitWait = l.budget, wait
		for _, f := range set {
			f(o)
		}
	}})
	t.Cleanup(l.close)
	l.hub.SetAccessToken(portalID, staticToken)
	l.seed(portalID, tokens.AccessToken, staticToken)
	l.hub.SetLimits(portalID, limits)
	return l
}

func (l *limitedRig) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := l.budget.Close(ctx); err != nil {
		l.t.Error(err)
	}
}

// usedUp makes another program use up HubSpot's limit.
func (l *limitedRig) usedUp() {
	for {
		request, _ := http.NewRequestWithContext(l.t.Context(), "GET", l.hub.URL+"/another/program", nil)
		request.Header.Set("Authorization", "Bearer "+staticToken)
		response, err := l.client.Do(request)
		if err != nil {
			l.t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode == http.StatusTooManyRequests {
			return
		}
	}
}

func TestCallsBeyondTheLimitWaitForTheirTurn(t *testing.T) {
	t.Parallel()
	l := startLimited(t, 20*time.Second, hubspottest.Limits{Burst: 5, Interval: time.Second})
	l.call("GET", "/a", nil) // HubSpot's limit is known then
	var calling sync.WaitGroup
	for range 10 {
		calling.Go(func() {
			if got := l.call("POST", "/a", strings.NewReader("body")); got.StatusCode != 200 {
				t.Errorf("%d %s", got.StatusCode, string(got.body))
			}
		})
	}
	calling.Wait()
	got := l.counted()
	if got["turn_wait_seconds"] == 0 || got["turns_waiting"] != 0 {
		t.Errorf("%v", got)
	}
}

func TestACallWhoseTurnCannotComeInTimeIsAnsweredInHubSpotsWords(t *testing.T) {
	t.Parallel()
	for policy, tt := range map[string]struct {
		method, path, message string
		least, most           int // Retry-After
	}{
		"TEN_SECONDLY_ROLLING": {"GET", "/a", "You have reached your ten_secondly_rolling limit. The portal's calls are at HubSpot's rate limit", 30, 61},
		"SECONDLY":             {"POST", "/crm/v3/objects/contacts/search", "You have reached your secondly limit.", 1, 2},
	} {
		l := startLimited(t, 100*time.Millisecond, hubspottest.Limits{Burst: 2, Interval: time.Minute, Search: 5})
		got, sent := l.call(tt.method, tt.path, nil), 0
		for ; got.StatusCode != 429 && sent < 50; sent++ {
			got = l.call(tt.method, tt.path, nil)
		}
		var body struct {
			Message, ErrorType, PolicyName, Category string
			Context                                  map[string][]string
		}
		if err := json.Unmarshal(got.body, &body); err != nil {
			t.Fatalf("%s: %v", string(got.body), err)
		}
		after, err := strconv.Atoi(got.Header.Get("Retry-After"))
		if got.StatusCode != 429 || got.Header.Get("X-Hubspot-Auth-Proxy-Error") != "RATE_LIMITED" || err != nil || after < tt.least || after > tt.most ||
			body.ErrorType != "RATE_LIMIT" || body.PolicyName != policy || body.Category != "RATE_LIMITED" ||
			!strings.HasPrefix(body.Message, tt.message) || !strings.Contains(strings.Join(body.Context["reason"], ""), "RATE_LIMIT_WAIT") || got.Header["X-Should-Retry"] != nil {
			t.Errorf("%d %v %s", got.StatusCode, got.Header, string(got.body))
		}
		if policy == "SECONDLY" && body.Message != tt.message {
			t.Errorf("an SDK does not know %q", body.Message)
		}
		if n := l.hub.RequestsFor(portalID); n != sent {
			t.Errorf("%d calls of %d reached HubSpot", n, sent)
		}
		if n := l.counted()["turns_refused_total reason=wait"]; n != 1 {
			t.Errorf("%v are counted", n)
		}
	}
}

func TestHubSpotsBurst429HoldsBackAndIsSentAgain(t *testing.T) {
	t.Parallel()
	l := startLimited(t, 10*time.Second, hubspottest.Limits{Burst: 4, Interval: time.Second}, func(o *proxy.Options) { o.RetryBodyLimit = 1 << 10 })
	l.usedUp()
	began := time.Now()
	got := l.call("POST", "/a", strings.NewReader("the body"))
	if got.StatusCode != 200 || got.Header.Get("X-Hubspot-Auth-Proxy-Attempts") != "2" || !strings.Contains(got.Header.Get("Server-Timing"), "turn;dur=") {
		t.Errorf("%d %v", got.StatusCode, got.Header)
	}
	if took := time.Since(began); took < 500*time.Millisecond || took > 5*time.Second {
		t.Errorf("sent again after %v", took)
	}
	// A body that was not kept cannot be sent again: the 429 is the answer.
	l.usedUp()
	if got := l.call("POST", "/a", strings.NewReader(strings.Repeat("x", 2<<10))); got.StatusCode != 429 ||
		got.Header.Get("X-Hubspot-Auth-Proxy-Error") != "" || !strings.Contains(string(got.body), `"policyName":"TEN_SECONDLY_ROLLING"`) {
		t.Errorf("%d %v %s", got.StatusCode, got.Header, string(got.body))
	}
}

func TestA429ThatNoWaitingHelpsIsPassedOn(t *testing.T) {
	t.Parallel()
	for name, limits := range map[string]hubspottest.Limits{
		"daily":              {Burst: 100, Interval: time.Second, Daily: 1},
		"longer than a wait": {Burst: 1, Interval: time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			l := startLimited(t, 300*time.Millisecond, limits)
			l.usedUp()
			before := l.hub.RequestsFor(portalID)
			if got := l.call("GET", "/a", nil); got.StatusCode != 429 || got.Header.Get("X-Hubspot-Auth-Proxy-Error") != "" {
				t.Errorf("%d %v", got.StatusCode, got.Header)
			}
			if n := l.hub.RequestsFor(portalID) - before; n != 1 {
				t.Errorf("sent %d times", n)
			}
		})
	}
}

func TestWithoutTheSettingA429IsPassedOnAndRedisHasNoWindow(t *testing.T) {
	t.Parallel()
	l := startLimited(t, 0, hubspottest.Limits{Burst: 1, Interval: time.Minute})
	l.call("GET", "/a", nil)
	if got := l.call("GET", "/a", nil); got.StatusCode != 429 || got.Header.Get("X-Hubspot-Auth-Proxy-Error") != "" {
		t.Errorf("%d %v", got.StatusCode, got.Header)
	}
	if keys := l.redis.Keys(t.Context(), "hubspot:budget:*").Val(); len(keys) > 0 {
		t.Errorf("%q", keys)
	}
}

// A client that leaves must not use up a turn.
func TestAClientThatLeavesLeavesTheQueue(t *testing.T) {
	t.Parallel()
	for name, request := range map[string]string{
		"GET":  "GET /left HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"POST": "POST /left HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nbody",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := startLimited(t, time.Minute, hubspottest.Limits{Burst: 2, Interval: 5 * time.Second})
			var left atomic.Int64
			l.hub.Observe(func(e hubspottest.Echo) {
				if e.Target == "/left" {
					left.Add(1)
				}
			})
			l.call("GET", "/a", nil)
			l.call("GET", "/a", nil)
			waiting := func(n float64) func() bool {
				return func() bool { return gathered(t, l.metrics)["turns_waiting"] == n }
			}
			conn := l.raw(request)
			testkit.Eventually(t, "the call waits", waiting(1))
			conn.Close()
			testkit.Eventually(t, "the call has left", waiting(0))
			if got := l.call("GET", "/a", nil); got.StatusCode != 200 {
				t.Errorf("%d", got.StatusCode)
			}
			if n := left.Load(); n != 0 {
				t.Errorf("the call reached HubSpot %d times", n)
			}
		})
	}
}

func TestAClientsDailyLimitCountsWhatIsSent(t *testing.T) {
	t.Parallel()
	key := clients.NewKey()
	set := clientSet{clients.Hash(key): {Name: "limited", Portals: []string{"*"}, DailyLimit: 5}}
	l := startLimited(t, 0, hubspottest.Limits{}, func(o *proxy.Options) { o.Clients = set })
	call := func(path string) reply { return l.call("GET", path, nil, "Authorization", "Bearer "+key.Reveal()) }
	for range 3 {
		call("/a")
		call("/portals/97/a") // is not connected, so that nothing is sent
	}
	call("/a")
	call("/a")
	got := call("/a")
	after, _ := strconv.Atoi(got.Header.Get("Retry-After"))
	if got.StatusCode != 429 || !strings.Contains(string(got.body), `"policyName":"DAILY"`) || after < 1 || after > 24*60*60 || got.Header.Get("X-Should-Retry") != "false" {
		t.Errorf("%d %v %s", got.StatusCode, got.Header, string(got.body))
	}
	if n := l.hub.RequestsFor(portalID); n != 5 {
		t.Errorf("%d calls were sent", n)
	}
	if got := l.call("GET", "/a", nil); got.StatusCode != 200 {
		t.Errorf("another client has %d", got.StatusCode)
	}
}

// clientSet is clients by the hash of their key.
type clientSet map[string]*clients.Client

func (s clientSet) Find(key secret.Text) *clients.Client { return s[clients.Hash(key)] }

func (clientSet) Expired(secret.Text) bool { return false }

func (clientSet) Loaded() bool { return true }

func TestWhatIsSentIsCountedByClientAndPortal(t *testing.T) {
	t.Parallel()
	key := clients.NewKey()
	set := clientSet{clients.Hash(key): {Name: "billing", Portals: []string{"*"}}}
	l := startLimited(t, 0, hubspottest.Limits{}, func(o *proxy.Options) { o.Clients = set })
	for range 3 {
		l.call("GET", "/a", nil)
	}
	l.call("GET", "/a", nil, "Authorization", "Bearer "+key.Reveal())
	l.call("GET", "/fake/status?code=401", nil, "Authorization", "Bearer "+key.Reveal()) // is sent once: there is no other token
	l.call("GET", "/portals/97/a", nil)
	l.call("GET", "/oauth/v1/access-tokens/x", nil)
	l.close()
	got, err := budget.ReadUsage(t.Context(), l.redis, "hubspot:", 1, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	day := time.Now().UTC().Format(time.DateOnly)
	want := []budget.DayUsage{{Day: day, Portal: portalID, Calls: 3}, {Day: day, Client: "billing", Portal: portalID, Calls: 2}}
	if !slices.Equal(got, want) || l.hub.RequestsFor(portalID) != 5 {
		t.Errorf("%v; HubSpot has seen %d", got, l.hub.RequestsFor(portalID))
	}
	if n := gathered(t, l.metrics)["client_requests_total client=billing"]; n != 2 {
		t.Errorf("%v requests of the client are counted", n)
	}
}

// A client that sends its next request while it waits must get both answers.
func TestPipelinedCallsWaitInOrder(t *testing.T) {
	t.Parallel()
	l := startLimited(t, 20*time.Second, hubspottest.Limits{Burst: 2, Interval: time.Second})
	one := "GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n"
	from := bufio.NewReader(l.raw(strings.Repeat(one, 5)))
	for range 5 {
		if got := receive(t, from, "GET"); got.StatusCode != 200 || !strings.Contains(got.text, "/a") {
			t.Errorf("%d %s", got.StatusCode, got.text)
		}
	}
}
