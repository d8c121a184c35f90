package proxy_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"hubspot-auth-proxy/proxy"
	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/redistest"
	"hubspot-auth-proxy/tokens/testkit"
)

// The number is what it takes: a plain ReverseProxy cuts one in 70 to one in
// 5,000 answers whose head and body come in two writes, depending on the
// machine, for net/http's server closes the request's body under the transport
// when the answer is flushed (golang.org/issue/57786). Here the body's own
// reader remembers the end, and full duplex keeps the server from closing; either
// is enough.
func TestNoAnswerOfManyPOSTsIsCut(t *testing.T) {
	r := start(t, setup{proxy: func(o *proxy.Options) { o.AccessLog = false }})
	r.connect(portalID)
	bodies := make([][]byte, 50)
	for i := range bodies {
		bodies[i] = bytesOf(1<<10, i)
	}
	together(t, volume(50_000, 1000), 50, func(i int) error {
		data := bodies[i%len(bodies)]
		var body io.Reader = bytes.NewReader(data)
		if i%2 == 0 {
			body = unsized{body} // whose end comes apart from its last bytes
		}
		answer, err := r.exchange(r.request("POST", "/fake/two-writes", body))
		if err != nil {
			return err
		}
		if answer.StatusCode != http.StatusOK || string(answer.body) != sum(data) {
			return fmt.Errorf("status %d, body %q", answer.StatusCode, answer.body)
		}
		return nil
	})
}

var credentialSpan = regexp.MustCompile(`credential;dur=([0-9.]+)`)

// waited returns how long the request waited for its credential.
func (a reply) waited() time.Duration {
	found := credentialSpan.FindStringSubmatch(a.Header.Get("Server-Timing"))
	if found == nil {
		return 0
	}
	ms, _ := strconv.ParseFloat(found[1], 64)
	return time.Duration(ms * float64(time.Millisecond))
}

// paced sends n requests evenly over the time, and reports the first errors.
func paced(t *testing.T, n int, over time.Duration, do func() error) {
	t.Helper()
	ticker := time.NewTicker(over / time.Duration(n))
	defer ticker.Stop()
	turns := make(chan struct{}, n)
	go func() {
		defer close(turns)
		for range n {
			<-ticker.C
			turns <- struct{}{}
		}
	}()
	together(t, n, 20, func(int) error {
		<-turns
		return do()
	})
}

// Tokens expire by a clock that only the proxy has. The fake HubSpot accepts them longer, so the
// test checks how old each token is that HubSpot gets.
func TestNoRequestOfAnActivePortalWaitsForARenewal(t *testing.T) {
	const life, latency = 30 * time.Minute, 200 * time.Millisecond
	clock := new(clock)
	r := start(t, setup{source: func(o *tokens.Options) { o.Now = clock.now }})
	r.connect(portalID)
	r.hub.SetToken(hubspottest.TokenBehaviour{Latency: latency, Rotate: true})
	ages := r.watchTokens(clock)
	r.call("GET", "/", nil).want(t, 200, "1")
	ask := func() error {
		answer, err := r.exchange(r.request("GET", "/crm", nil))
		if err == nil && (answer.StatusCode != http.StatusOK || answer.waited() >= latency/2) {
			err = fmt.Errorf("status %d, %s until there was a credential", answer.StatusCode, answer.waited())
		}
		return err
	}
	clock.forward(4 * time.Minute)
	for n := 1; n <= 3; n++ {
		clock.forward(20 * time.Minute) // the token is 24 minutes old
		paced(t, 50, latency, ask)
		if calls := r.hub.TokenCalls(portalID); calls != n {
			t.Errorf("%d calls of the token endpoint more than RefreshAhead before the end of token %d", calls, n)
		}
		clock.forward(3 * time.Minute)
		testkit.Eventually(t, "the next token at HubSpot", func() bool {
			paced(t, 50, latency, ask)
			return ages.count() > n
		})
		clock.forward(4 * time.Minute) // the former token has expired
		paced(t, 50, latency, ask)
		if calls := r.hub.TokenCalls(portalID); calls != n+1 {
			t.Errorf("%d calls of the token endpoint after token %d", calls, n)
		}
	}
	if age := ages.most(); age >= life {
		t.Errorf("HubSpot got a token %v after it was first used", age)
	}
}

// tokenAges has the times at which HubSpot first and last got each token.
type tokenAges struct {
	mu          sync.Mutex
	first, last map[string]time.Time
}

// watchTokens records the tokens that HubSpot gets from now on, by the clock.
func (r *rig) watchTokens(clock *clock) *tokenAges {
	a := &tokenAges{first: map[string]time.Time{}, last: map[string]time.Time{}}
	r.hub.Observe(func(e hubspottest.Echo) {
		token := e.Header.Get("Authorization")
		if token == "" {
			return // a call of the token endpoint
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		a.last[token] = clock.now()
		if a.first[token].IsZero() {
			a.first[token] = a.last[token]
		}
	})
	return a
}

func (a *tokenAges) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.first)
}

func (a *tokenAges) most() (age time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for token, first := range a.first {
		age = max(age, a.last[token].Sub(first))
	}
	return age
}

func TestFiveReplicasRenewOnceTogether(t *testing.T) {
	server := redistest.Start(t)
	hub := hubspottest.NewServer()
	t.Cleanup(hub.Close)
	// Each replica has a client of its own, as in life.
	clock := new(clock)
	var replicas []*rig
	for range 5 {
		replicas = append(replicas, start(t, setup{hub: hub, redis: server.Client(t), source: func(o *tokens.Options) { o.Now = clock.now }}))
	}
	replicas[0].connect(portalID)
	for _, r := range replicas {
		r.call("GET", "/", nil).want(t, 200, "1")
	}
	if calls := hub.TokenCalls(portalID); calls != 1 {
		t.Fatalf("%d calls of the token endpoint for the first token", calls)
	}
	hub.SetToken(hubspottest.TokenBehaviour{Latency: 200 * time.Millisecond, Rotate: true})
	hub.Expire(portalID)
	clock.forward(31 * time.Minute)
	var work sync.WaitGroup
	for _, r := range replicas {
		work.Go(func() {
			together(t, volume(200, 60), 60, func(int) error {
				answer, err := r.exchange(r.request("GET", "/crm", nil))
				if err == nil && answer.StatusCode != http.StatusOK {
					err = fmt.Errorf("status %d: %s", answer.StatusCode, answer.body)
				}
				return err
			})
		})
	}
	work.Wait()
	if calls := hub.TokenCalls(portalID); calls != 2 {
		t.Errorf("%d calls of the token endpoint, want 2", calls)
	}
}

// While Redis is unreachable, known portals are served and renewed. A refresh token that was
// rotated meanwhile is not lost.
func TestARedisThatIsAwayFailsNoRequestOfAKnownPortal(t *testing.T) {
	for name, outage := range map[string]struct{ begin, end func(*redistest.Server) }{
		"killed": {(*redistest.Server).Kill, (*redistest.Server).Restart},
		"paused": {(*redistest.Server).Pause, (*redistest.Server).Resume},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t, redistest.Persist())
			client := server.Client(t)
			r, clock := startOAuth(t, setup{redis: client})
			r.hub.SetToken(hubspottest.TokenBehaviour{Rotate: true})
			stored := func() string {
				return client.HGet(t.Context(), "hubspot:portal:{"+portalID+"}", "renewed_at").Val()
			}
			first := stored()
			outage.begin(server)
			clock.forward(26 * time.Minute) // of the 30 that the token lives
			testkit.Eventually(t, "a renewal without Redis", func() bool {
				paced(t, 50, 500*time.Millisecond, func() error {
					answer, err := r.exchange(r.request("GET", "/crm", nil))
					if err == nil && (answer.StatusCode != http.StatusOK || answer.attempts != "1") {
						err = fmt.Errorf("status %d after %s attempts: %s", answer.StatusCode, answer.attempts, answer.body)
					}
					return err
				})
				return r.hub.TokenCalls(portalID) == 2
			})
			clock.forward(5 * time.Minute) // the former token has expired
			r.call("GET", "/", nil).want(t, 200, "1")
			if calls := r.hub.TokenCalls(portalID); calls != 2 {
				t.Errorf("%d calls of the token endpoint", calls)
			}
			outage.end(server)
			testkit.Eventually(t, "the renewed token in Redis", func() bool {
				now := stored()
				return now != "" && now != first
			})
			// Another process, which knows only what Redis has, gets a credential that HubSpot accepts.
			other := start(t, setup{hub: r.hub, redis: server.Client(t)})
			other.call("GET", "/", nil).want(t, 200, "1")
			if v := r.hub.Violations(); len(v) > 0 {
				t.Error(v)
			}
		})
	}
}
