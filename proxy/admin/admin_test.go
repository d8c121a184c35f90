package admin_test

import (
	"go/build"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"hubspot-auth-proxy/proxy/admin"
	"hubspot-auth-proxy/tokens/secret"
)

const password = "correct horse"

func TestAdminDoesNotImportProxy(t *testing.T) {
	this, err := build.ImportDir(".", 0)
	if err != nil {
		t.Fatal(err)
	}
	if slices.Contains(this.Imports, "hubspot-auth-proxy/proxy") || !slices.Contains(this.Imports, "hubspot-auth-proxy/proxy/activity") {
		t.Errorf("it imports %v", this.Imports)
	}
}

func TestHealthzAnswersWhileTheProcessIsAlive(t *testing.T) {
	r := newRig(t, nil)
	if a := r.get("/healthz"); a.StatusCode != http.StatusOK || a.body != "{\"status\":\"alive\"}\n" {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
}

func TestReadinessFollowsReadyJoinedAndStopping(t *testing.T) {
	redis := true
	r := newRig(t, func(r *rig) { r.options.RedisAnswers = func() bool { return redis } })
	expect := func(status int, body string) {
		t.Helper()
		a := r.get("/readyz")
		if a.StatusCode != status || strings.TrimSpace(a.body) != body || a.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%d %s %v, want %d %s", a.StatusCode, a.body, a.Header, status, body)
		}
	}
	expect(503, `{"redis":"awaited","seed":"awaited","settings":"loaded","status":"starting"}`)
	r.admin.Joined()
	expect(200, `{"redis":"answers","seed":"applied","settings":"loaded","status":"ready"}`)
	redis = false // an outage of Redis does not matter
	expect(200, `{"redis":"does not answer","seed":"applied","settings":"loaded","status":"ready"}`)
	r.admin.Stopping()
	expect(503, `{"redis":"does not answer","seed":"applied","settings":"loaded","status":"stopping"}`)
}

func TestAnAdminNeedsNoConnectFlow(t *testing.T) {
	r := newRig(t, func(r *rig) { r.options = admin.Options{RedisAnswers: func() bool { return true }} })
	for path, status := range map[string]int{"/healthz": 200, "/readyz": 503, "/callback": 404, "/connect": 403, "/nothing": 404} {
		if a := r.get(path); a.StatusCode != status {
			t.Errorf("%s: %d", path, a.StatusCode)
		}
	}
}

func TestOnLoopbackOnlyLoopbackHostsAreServed(t *testing.T) {
	for _, tt := range []struct {
		loopback bool
		host     string
		status   int
	}{
		{true, "localhost:8081", 200},
		{true, "[::1]:8081", 200},
		{true, "evil.example", 403},
		{true, "localhost.evil.example", 403},
		{false, "evil.example", 200},
	} {
		r := newRig(t, func(r *rig) { r.options.Loopback = tt.loopback })
		if a := r.get("/healthz", func(request *http.Request) { request.Host = tt.host }); a.StatusCode != tt.status {
			t.Errorf("%v: %d", tt, a.StatusCode)
		}
	}
}

func TestWrongPasswordsAreLimitedForEachAddress(t *testing.T) {
	r := newRig(t, func(r *rig) {
		r.options.Loopback = false
		r.options.Password = secret.New(password)
	})
	try := func(from, password string) answer {
		t.Helper()
		r.browser.Transport = &http.Transport{DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).DialContext, DisableKeepAlives: true}
		return r.get("/", func(request *http.Request) { request.SetBasicAuth("admin", password) })
	}
	for i := range 100 {
		want := http.StatusUnauthorized
		if i >= 10 {
			want = http.StatusTooManyRequests
		}
		if a := try("127.0.0.1", "wrong"); a.StatusCode != want {
			t.Fatalf("try %d: %d", i, a.StatusCode)
		}
	}
	a := try("127.0.0.1", password) // otherwise the right password could be found out
	if a.StatusCode != http.StatusTooManyRequests || a.Header.Get("Retry-After") != "5" || !strings.Contains(a.body, "Wait 5 seconds") {
		t.Errorf("the right one: %d %v %s", a.StatusCode, a.Header, a.body)
	}
	for range 20 { // the right password costs no try
		if a := try("127.0.0.2", password); a.StatusCode != http.StatusOK {
			t.Fatalf("another address: %d", a.StatusCode)
		}
	}
	if a := r.get("/healthz"); a.StatusCode != http.StatusOK {
		t.Errorf("health: %d", a.StatusCode)
	}
	r.later.Store(int64(5 * time.Second))
	if a := try("127.0.0.1", password); a.StatusCode != http.StatusOK {
		t.Errorf("after a while: %d", a.StatusCode)
	}
}

func TestConnectRequiresThePassword(t *testing.T) {
	basic := func(user, password string) func(*http.Request) {
		return func(request *http.Request) { request.SetBasicAuth(user, password) }
	}
	for _, loopback := range []bool{true, false} {
		r := newRig(t, func(r *rig) {
			r.options.Loopback = loopback
			r.options.Password = secret.New(password)
		})
		a := r.get("/connect")
		if a.StatusCode != http.StatusUnauthorized || !strings.HasPrefix(a.Header.Get("WWW-Authenticate"), "Basic realm=") || r.logs.Len() != 0 {
			t.Errorf("none: %d %v, logged %v", a.StatusCode, a.Header, r.logs.All())
		}
		for _, wrong := range []func(*http.Request){
			basic("admin", ""), basic("admin", password+"x"), basic("admin", password[1:]), basic("Admin", password), basic("", password),
			basic(password, "admin"), basic("admin", "<script>"),
		} {
			a := r.get("/connect", wrong)
			r.refuses(a, http.StatusUnauthorized, "wrong_password", "ADMIN_PASSWORD")
			if a.Header.Get("WWW-Authenticate") == "" || len(a.Cookies()) != 0 || strings.Contains(r.logged.String()+a.body, password) {
				t.Errorf("header %v, page %s, log %s", a.Header, a.body, r.logged)
			}
		}
		if a := r.get("/connect", basic("admin", password)); a.StatusCode != http.StatusFound {
			t.Errorf("right: %d", a.StatusCode)
		}
	}
}

func TestHealthAndCallbackRequireNoPassword(t *testing.T) {
	r := newRig(t, func(r *rig) {
		r.options.Loopback = false
		r.options.Password = secret.New(password)
	})
	begun := r.get("/connect", func(request *http.Request) { request.SetBasicAuth("admin", password) })
	for path, status := range map[string]int{"/healthz": 200, "/readyz": 503, r.allow(begun.Header.Get("Location"), portal): 200} {
		if a := r.get(path); a.StatusCode != status {
			t.Errorf("%s: %d", path, a.StatusCode)
		}
	}
}

func TestConnectIsServedOnLoopbackOnlyWithoutAPassword(t *testing.T) {
	r := newRig(t, func(r *rig) { r.options.Loopback = false })
	r.refuses(r.get("/connect"), http.StatusForbidden, "no_password", "ADMIN_PASSWORD")
	r = newRig(t, nil)
	if a := r.get("/connect"); a.StatusCode != http.StatusFound {
		t.Errorf("on loopback: %d", a.StatusCode)
	}
}
