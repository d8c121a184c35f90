package faults

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/testkit"
)

func settingsFaults(*testing.T) []fault {
	return []fault{
		{"HubSpot rejects the token of `HUBSPOT_ACCESS_TOKEN_FILE`, which was replaced by the rename of a symbolic link", tryReplacedFile},
		{"`SEED_FILE` becomes faulty after the start", tryFaultySeed},
		{"`ENCRYPTION_KEYS` is set for the first time, process by process: `plain,a:…`, then `a:…,plain` and `keys rotate`, then `a:…`", tryFirstKeys},
		{"an error is logged, and the log is a pipe", tryPipe},
		{"the address in `NOTIFY_URL` hangs", tryHangingNotifyURL},
	}
}

// mounted is a file as Kubernetes mounts one of a Secret: a link into ..data, which is
// a link to the folder of the present version.
type mounted struct {
	t        *testing.T
	dir      string
	versions int
}

func (m *mounted) path() string { return filepath.Join(m.dir, "token") }

// put replaces the file.
func (m *mounted) put(text string) {
	m.t.Helper()
	m.versions++
	version := "v" + string(rune('0'+m.versions))
	steps := []error{os.Mkdir(filepath.Join(m.dir, version), 0o700)}
	writeFile(m.t, filepath.Join(m.dir, version, "token"), text)
	next := filepath.Join(m.dir, "..data_tmp")
	steps = append(steps, os.Symlink(version, next), os.Rename(next, filepath.Join(m.dir, "..data")))
	if m.versions == 1 {
		steps = append(steps, os.Symlink(filepath.Join("..data", "token"), m.path()))
	}
	for _, err := range steps {
		if err != nil {
			m.t.Fatal(err)
		}
	}
}

func tryReplacedFile(t *testing.T) outcome {
	const portal = "62519"
	token := func(n string) string { return "pat-na1-" + hubspottest.Canary + "-" + n }
	m := &mounted{t: t, dir: t.TempDir()}
	m.put(token("1"))
	s := newStage(t, "HUBSPOT_PORTAL_ID="+portal, "HUBSPOT_ACCESS_TOKEN_FILE="+m.path())
	s.hub.SetAccessToken(portal, token("1"))
	s.startTwo()
	m.put(token("2"))
	s.hub.SetAccessToken(portal, token("2"))
	var results []result
	for _, r := range s.replicas {
		results = append(results, s.write(r, portal))
	}
	o := outcome{client: wantKinds(t, results, "200"), hubspot: "the first request twice: with the old token, and with the new one", recovery: "at once after a 401"}
	if n := s.seen.times(results[0].method, results[0].sent()); n != 2 {
		t.Errorf("HubSpot received the first request %d times", n)
	}
	// Without a 401, the files are read every few seconds.
	m.put(token("3"))
	changed := time.Now()
	testkit.Within(t, 15*time.Second, "the new token is used", func() bool { return s.usesToken(portal, token("3")) })
	o.recovery += "; otherwise " + wantWithin(t, changed, 10*time.Second)
	s.hub.SetAccessToken(portal, token("3"))
	s.wantNothingLost()
	return o
}

// usesToken reports whether each replica sends the portal's requests with the token,
// which HubSpot does not accept yet.
func (s *stage) usesToken(portal, token string) bool {
	s.t.Helper()
	return !slices.ContainsFunc(s.replicas, func(r *replica) bool {
		got := s.write(r, portal)
		return !s.seen.had(got.method, got.sent(), "Bearer "+token)
	})
}

func tryFaultySeed(t *testing.T) outcome {
	s := newStage(t)
	s.startTwo()
	l := s.load()
	content, err := os.ReadFile(s.seed)
	if err != nil {
		t.Fatal(err)
	}
	reported := func(n float64) func() bool {
		return func() bool {
			return !slices.ContainsFunc(s.replicas, func(r *replica) bool { return r.metric("hubspot_auth_proxy_faulty_seeds", "") != n })
		}
	}
	writeFile(t, s.seed, "portals:\n- {id: x, access_token: "+hubspottest.Canary+"}\n")
	testkit.Within(t, 15*time.Second, "the metric says that the seed file is faulty", reported(1))
	for _, r := range s.replicas {
		wantReady(t, r, http.StatusOK, `"seed":"faulty"`)
	}
	writeFile(t, s.seed, string(content))
	mended := time.Now()
	testkit.Within(t, 15*time.Second, "the metric says that the seed file is mended", reported(0))
	o := outcome{hubspot: "each request once", recovery: wantWithin(t, mended, 10*time.Second)}
	o.client = wantKinds(t, l.stop(), "200") + "; `/readyz`, a metric and an alert say that the file is faulty"
	s.wantNothingLost()
	return o
}

// Each process is replaced by one with the next setting. Before and after each
// replacement, all access tokens expire once for each process, so that each must read
// what another has stored.
func tryFirstKeys(t *testing.T) outcome {
	s := newStage(t)
	redis := s.startTwo()
	key := strings.TrimSpace(strings.SplitN(s.command(redis, "", "keys", "generate", "a"), "\n", 2)[0])
	var results []result
	expiries, calls := 0, s.calls()
	call := func() {
		t.Helper()
		for _, r := range s.replicas {
			for _, portal := range portals {
				before := s.write(r, portal)
				s.hub.Expire(portal)
				results = append(results, before, s.write(r, portal))
				if slices.Contains(granted, portal) {
					expiries++
				}
			}
		}
	}
	for _, keys := range []string{"plain," + key, key + ",plain", key} {
		if keys == key {
			if printed, err := s.tryCommand(redis, "", []string{"ENCRYPTION_KEYS=" + key + ",plain"}, "keys", "rotate"); err != nil {
				t.Fatalf("keys rotate: %v\n%s", err, printed)
			}
		}
		for range 2 {
			call()
			s.start(redis.URL(), "ENCRYPTION_KEYS="+keys)
			call()
			old := s.replicas[0]
			s.replicas = s.replicas[1:]
			old.Terminate()
		}
	}
	call()
	if n := s.calls() - calls; n != expiries {
		t.Errorf("%d token calls for %d expiries", n, expiries)
	}
	o := outcome{client: wantKinds(t, results, "200"), hubspot: "one token call per portal and expiry", recovery: "at once"}
	for _, portal := range portals {
		for _, field := range []string{"access_token", "refresh_token", "api_key"} {
			if value := redis.Do("HGET", "hubspot:portal:{"+portal+"}", field); value != "" && !strings.HasPrefix(value, "sealed:a:") {
				t.Errorf("portal %s: %s is not sealed", portal, field)
			}
		}
	}
	s.settings = append(s.settings, "ENCRYPTION_KEYS="+key)
	s.wantNothingLost()
	return o
}

// launch checks that each line is JSON.
func tryPipe(t *testing.T) outcome {
	s := newStage(t)
	s.startTwo()
	writeFile(t, s.seed, "portals: x\n")
	for _, r := range s.replicas {
		r.Printed.Until(t, `"level":"error".*\n`)
		if got := s.write(r, first); !got.served() {
			t.Errorf("the portal is answered %s", got.kind())
		}
		if status := r.Terminate(); status != 0 {
			t.Errorf("exit status %d", status)
		}
	}
	return outcome{client: "200; the log has lines of JSON, and nothing else", hubspot: "each request once", recovery: "at once"}
}

func tryHangingNotifyURL(t *testing.T) outcome {
	s := newStage(t, "NOTIFY_URL=http://"+hangingListener(t)+"/"+hubspottest.Canary, "SHUTDOWN_TIMEOUT=1s")
	redis := s.startTwo()
	s.hub.Disconnect(first)
	s.hub.Expire(first)
	s.waitForStatus(http.StatusForbidden, first, s.replicas...)
	var results []result
	for _, r := range s.replicas {
		results = append(results, s.write(r, first), s.write(r, second))
	}
	wantKinds(t, results, "200", "403 `PORTAL_REAUTHORIZATION_REQUIRED`")
	wantAnswersWithin(t, results, time.Second)
	s.connect(redis)
	o := outcome{
		client: "no difference: neither requests nor renewals wait for it; what is not delivered is logged and counted", hubspot: "no difference",
		recovery: s.servedWithin(10*time.Second, first),
	}
	for _, r := range s.replicas {
		began := time.Now()
		if status := r.Terminate(); status != 0 {
			t.Errorf("exit status %d", status)
		}
		wantWithin(t, began, 5*time.Second)
	}
	return o
}

// hangingListener returns an address that takes connections and never answers.
func hangingListener(t *testing.T) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener.Addr().String() // the system takes the connections
}
