package faults

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/redistest"
	"hubspot-auth-proxy/tokens/testkit"
)

// The portals: two with OAuth grants, one with a static token, one with an API key.
const (
	first  = "62515"
	second = "62516"
	static = "62517"
	keyed  = "62518"
)

var (
	portals = []string{first, second, static, keyed}
	granted = []string{first, second}
)

// stage is a fake HubSpot, and the processes (replicas) of the program that use it.
type stage struct {
	t        *testing.T
	hub      *hubspottest.Server
	seen     arrivals
	settings []string
	replicas []*replica
	seed     string // path of the seed file
	redis    string // REDIS_URL of the replica that was started last
	writes   atomic.Int64
}

// newStage makes a stage whose HubSpot has all portals, without replicas. The settings
// are added to those of every replica, and win over them.
func newStage(t *testing.T, settings ...string) *stage {
	t.Helper()
	s := &stage{t: t, hub: hubspottest.NewServer()}
	t.Cleanup(s.hub.Close)
	s.hub.Observe(s.seen.observe)
	s.hub.SetAccessToken(static, "pat-na1-"+hubspottest.Canary)
	s.hub.SetAPIKey(keyed, hubspottest.Canary+"-key")
	seed := filepath.Join(t.TempDir(), "seed.yaml")
	text := fmt.Sprintf("portals:\n- {id: %s, refresh_token: %s}\n- {id: %s, refresh_token: %s}\n- {id: %s, access_token: pat-na1-%s}\n- {id: %s, api_key: %s-key}\n",
		first, s.hub.Connect(first), second, s.hub.Connect(second), static, hubspottest.Canary, keyed, hubspottest.Canary)
	writeFile(t, seed, text)
	s.seed = seed
	s.settings = append([]string{
		"UPSTREAM_URL=" + s.hub.URL, "SEED_FILE=" + seed,
		"HUBSPOT_CLIENT_ID=" + hubspottest.ClientID, "HUBSPOT_CLIENT_SECRET=" + hubspottest.ClientSecret,
	}, settings...)
	return s
}

// start starts a replica with this Redis and checks that it serves all portals. The
// settings are added to the stage's.
func (s *stage) start(redis string, settings ...string) *replica {
	s.t.Helper()
	r := launch(s.t, slices.Concat(s.settings, []string{"REDIS_URL=" + redis}, settings))
	for _, portal := range portals {
		if got := r.call("GET", objectOf(portal, "start")); !got.served() {
			s.t.Fatalf("portal %s is not served at the start: %s %s", portal, got.kind(), got.body)
		}
	}
	s.replicas, s.redis = append(s.replicas, r), redis
	return r
}

// objectOf returns the target of an object of the portal.
func objectOf(portal, object string) string {
	return "/portals/" + portal + "/crm/v3/objects/contacts/" + object
}

// load is a group of clients that call until stop. It records all results.
type load struct {
	end     context.CancelFunc
	calling sync.WaitGroup
	mu      sync.Mutex
	results []result
}

// load starts one client for each portal at each replica. Each client calls ten times a
// second, with each method in turn.
func (s *stage) load() *load {
	ctx, end := context.WithCancel(context.Background())
	l := &load{end: end}
	for n, r := range s.replicas {
		for _, portal := range portals {
			l.calling.Go(func() { l.call(ctx, r, portal, fmt.Sprintf("%s-from-%d", portal, n)) })
		}
	}
	s.t.Cleanup(func() { l.stop() })
	return l
}

func (l *load) call(ctx context.Context, r *replica, portal, name string) {
	client := &http.Client{Transport: &http.Transport{}, Timeout: 30 * time.Second}
	defer client.CloseIdleConnections()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	methods := []string{"GET", "POST", "PATCH", "PUT", "DELETE"}
	for i := 0; ctx.Err() == nil; i++ {
		got := send(client, r, methods[i%len(methods)], objectOf(portal, fmt.Sprintf("%s-%d", name, i)))
		if got.served() {
			if echo, err := hubspottest.DecodeEcho(strings.NewReader(got.body)); err != nil || echo.Portal != portal {
				got.err = fmt.Errorf("the answer to %[2]s is that of portal %[1]s: %[3]w", echo.Portal, got.target, err)
			}
		}
		l.mu.Lock()
		l.results = append(l.results, got)
		l.mu.Unlock()
		select {
		case <-ticker.C:
		case <-ctx.Done():
		}
	}
}

// soFar returns the results until now.
func (l *load) soFar() []result {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.results)
}

// stop ends the load and returns all results.
func (l *load) stop() []result {
	l.end()
	l.calling.Wait()
	return l.soFar()
}

// seenEverywhere reports whether each replica has answered a request for each portal of
// ids with a result that satisfies seen. Only requests that began after then count.
func (s *stage) seenEverywhere(l *load, then time.Time, seen func(result) bool, ids ...string) bool {
	missing := make(map[string]bool)
	for _, r := range s.replicas {
		for _, portal := range ids {
			missing[r.Address+"/"+portal] = true
		}
	}
	for _, got := range l.soFar() {
		if got.began.After(then) && seen(got) {
			delete(missing, got.replica.Address+"/"+strings.Split(got.target, "/")[2])
		}
	}
	return len(missing) == 0
}

// wantRecovery waits until all replicas serve all portals again and reach Redis. It
// checks that this took no longer than the bound, and returns the bound as text.
func (s *stage) wantRecovery(l *load, within time.Duration) string {
	s.t.Helper()
	mended := time.Now()
	testkit.Within(s.t, within+10*time.Second, "all replicas serve all portals and reach Redis", func() bool {
		return s.seenEverywhere(l, mended, result.served, portals...) &&
			!slices.ContainsFunc(s.replicas, func(r *replica) bool { return !r.seesRedis() })
	})
	return wantWithin(s.t, mended, within)
}

// wantWithin checks that at most bound has passed since the time since, and returns the
// bound as text.
func wantWithin(t *testing.T, since time.Time, bound time.Duration) string {
	t.Helper()
	took := time.Since(since)
	if took > bound {
		t.Errorf("recovered after %v, want less than %v", took, bound)
	}
	t.Logf("recovered after %v", took)
	return fmt.Sprintf("< %v", bound)
}

// wantNothingLost checks that no write was sent twice and that no refresh token was
// lost: after all access tokens have expired, each replica and a new one serve each
// portal.
func (s *stage) wantNothingLost() {
	s.t.Helper()
	s.hub.SetToken(hubspottest.TokenBehaviour{Rotate: true})
	s.start(s.redis)
	for _, r := range s.replicas {
		if !running(r) {
			continue
		}
		for _, portal := range portals {
			s.wantServed(r, portal, "before the expiry")
			s.hub.Expire(portal)
			s.wantServed(r, portal, "after the expiry")
		}
	}
	s.seen.wantWritesOnce(s.t, s.hub.Unauthorized())
	if v := s.hub.Violations(); len(v) > 0 {
		s.t.Errorf("violations: %q", v)
	}
}

// wantServed checks that the replica serves the portal within 10 s.
func (s *stage) wantServed(r *replica, portal, when string) {
	s.t.Helper()
	var got result
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); <-time.After(50 * time.Millisecond) {
		if got = r.call("GET", objectOf(portal, "last")); got.served() {
			return
		}
	}
	s.t.Errorf("%s: portal %s is not served: %s %s", when, portal, got.kind(), got.body)
}

// wantUnseen checks that HubSpot received none of the requests that the proxy answered
// itself.
func (s *stage) wantUnseen(results []result) {
	s.t.Helper()
	for _, r := range results {
		if strings.Contains(r.kind(), "`") && s.seen.times(r.method, r.sent()) > 0 {
			s.t.Errorf("%s %s was answered %s, and was sent to HubSpot", r.method, r.target, r.kind())
			return
		}
	}
}

// running reports whether the process has not ended.
func running(r *replica) bool {
	select {
	case <-r.Ended():
		return false
	default:
		return true
	}
}

// short is the lifetime of tokens that are renewed every three seconds.
const short = 4 * time.Second

// renewed waits until n further token calls have been made for each OAuth portal.
func (s *stage) renewed(n int) {
	s.t.Helper()
	before := make(map[string]int)
	for _, portal := range granted {
		before[portal] = s.hub.TokenCalls(portal)
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), 60*time.Second)
	defer cancel()
	for _, portal := range granted {
		if err := s.hub.Until(ctx, func() bool { return s.hub.TokenCalls(portal) >= before[portal]+n }); err != nil {
			s.t.Fatalf("portal %s is not renewed %d times: %v", portal, n, err)
		}
	}
}

// startTwo starts a Redis and two replicas that use it.
func (s *stage) startTwo(options ...redistest.Option) *redistest.Server {
	s.t.Helper()
	redis := redistest.Start(s.t, options...)
	s.start(redis.URL())
	s.start(redis.URL())
	return redis
}

// connect gives the first portal a new grant by the command portal set.
func (s *stage) connect(redis *redistest.Server) {
	s.t.Helper()
	s.command(redis, s.hub.Connect(first), "portal", "set", first, "refresh_token")
}

// command runs a command of the program and returns its output. The command must
// succeed.
func (s *stage) command(redis *redistest.Server, stdin string, args ...string) string {
	s.t.Helper()
	printed, err := s.tryCommand(redis, stdin, nil, args...)
	if err != nil {
		s.t.Fatalf("%q: %v\n%s", args, err, printed)
	}
	return printed
}

// tryCommand runs a command that may fail. The settings are added to the stage's.
func (s *stage) tryCommand(redis *redistest.Server, stdin string, settings []string, args ...string) (printed string, err error) {
	command := exec.Command(testkit.Binary(), args...)
	command.Env = slices.Concat(s.settings, []string{"REDIS_URL=" + redis.URL(), "GORACE=atexit_sleep_ms=0"}, settings)
	command.Stdin = strings.NewReader(stdin)
	output, err := command.CombinedOutput()
	return string(output), err
}

// writeFile writes a file of settings.
func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
