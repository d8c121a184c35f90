package admin_test

import (
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"hubspot-auth-proxy/proxy/admin"
)

func TestTenInstallationsAMinuteAreTried(t *testing.T) {
	r := newInstallRig(t)
	other := newOtherProcess(r)
	r.later.Store(int64(time.Until(time.Now().Truncate(time.Minute).Add(time.Minute)))) // a minute begins
	count := func() map[int]int {
		statuses := map[int]int{}
		for i := range 24 {
			address := r.install(string(rune('1'+i%9))+string(rune('0'+i/9)), false)
			if i%2 == 1 {
				address = strings.Replace(address, r.server.URL, other, 1)
			}
			a := r.get(address)
			statuses[a.StatusCode]++
			if a.StatusCode == http.StatusTooManyRequests && (a.Header.Get("Retry-After") == "" || !strings.Contains(a.body, "Too many installations")) {
				t.Errorf("header %v: %s", a.Header, a.body)
			}
		}
		return statuses
	}
	if got := count(); got[http.StatusTooManyRequests] != 14 || r.hub.TokenCallsTotal() != 10 {
		t.Errorf("statuses %v, %d token calls", got, r.hub.TokenCallsTotal())
	}
	// Connections by /connect are not limited.
	if a := r.get(r.allow(r.begin(""), "99")); a.StatusCode != http.StatusOK {
		t.Errorf("/connect: status %d", a.StatusCode)
	}
	r.later.Add(int64(time.Minute))
	if got := count(); got[http.StatusTooManyRequests] != 14 {
		t.Errorf("a minute later: %v", got)
	}
}

func TestTenInstallationsWithSignInAMinuteAreTried(t *testing.T) {
	r := newInstallRig(t)
	r.later.Store(int64(time.Until(time.Now().Truncate(time.Minute).Add(time.Minute)))) // a minute begins
	for i := range 10 {
		if a := r.get(r.signIn("1" + strconv.Itoa(i))); a.StatusCode != http.StatusFound {
			t.Errorf("installation %d: status %d: %s", i, a.StatusCode, a.body)
		}
	}
	finalize := r.signIn(portal)
	r.refusesInstall("one too many", r.get(finalize), http.StatusTooManyRequests, "Too many installations")
	if a := r.get(r.install("7", false)); a.StatusCode != http.StatusFound {
		t.Errorf("the other flow: status %d: %s", a.StatusCode, a.body)
	}
	r.later.Add(int64(time.Minute))
	if a := r.get(finalize); a.StatusCode != http.StatusFound { // a refused state can be used later
		t.Errorf("a minute later: status %d: %s", a.StatusCode, a.body)
	}
}

// newOtherProcess returns the address of another process' listener on the same Redis.
func newOtherProcess(r *rig) string {
	r.Helper()
	server := httptest.NewServer(admin.New(r.options))
	r.Cleanup(server.Close)
	return server.URL
}
