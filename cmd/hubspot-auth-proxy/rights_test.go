package main

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/redistest"
	"hubspot-auth-proxy/tokens/testkit"
)

// A user of Redis 7 has no channels by default.
func TestWithoutTheRightToSubscribeChangesTakeEffectWithinTenSeconds(t *testing.T) {
	t.Parallel()
	s := &stage{t: t, redis: redistest.Start(t, redistest.Without("&hubspot:*")), hub: hubspottest.NewServer()}
	t.Cleanup(s.hub.Close)
	s.hub.SetAccessToken("62516", hubspottest.Canary)
	command := func(stdin string, args ...string) string {
		t.Helper()
		var stdout testkit.Output
		if err := run(t.Context(), args, []string{"REDIS_URL=" + s.redis.URL()}, strings.NewReader(stdin), &stdout, &testkit.Output{}); err != nil {
			t.Fatalf("%q: %v", args, err)
		}
		return strings.TrimSpace(stdout.String())
	}
	command(hubspottest.Canary, "portal", "set", "62516", "access_token")
	kept, lost := command("", "client", "add", "kept", "--portals", "*"), command("", "client", "add", "lost", "--portals", "*")
	admin := freePort(t)
	p := s.launch("ALLOW_ANONYMOUS=false", "ADMIN_ADDR="+admin)
	p.until(`"missing":\["&hubspot:\*"\]`)
	url := "http://" + p.address() + "/portals/62516/crm/v3/objects/contacts"
	if status := statusOf(t, url, lost); status != http.StatusOK {
		t.Fatalf("the portal is not served before the change: %d", status)
	}
	testkit.Eventually(t, "readyz says that changes are polled for", func() bool {
		status, body := get(t, "http://"+admin+"/readyz")
		return status == http.StatusOK && strings.Contains(body, `"redis_changes":"polled`)
	})
	began := time.Now()
	command("", "client", "remove", "lost")
	command("", "portal", "remove", "62516")
	testkit.Eventually(t, "the key is refused", func() bool { return statusOf(t, url, lost) == http.StatusUnauthorized })
	testkit.Eventually(t, "the portal is refused", func() bool { return statusOf(t, url, kept) == http.StatusForbidden })
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
}

// The missing right is logged once, although the proxy keeps trying to start.
func TestAMissingRightThatKeepsTheProxyFromStartingIsLoggedOnce(t *testing.T) {
	t.Parallel()
	s := &stage{t: t, redis: redistest.Start(t, redistest.Without("+hgetall")), hub: hubspottest.NewServer()}
	t.Cleanup(s.hub.Close)
	p := s.launch()
	p.until(`waits for Redis.*"address"`)
	p.until(`the proxy still waits for Redis.*may not use HGETALL`)
	s.redis.Do("acl", "setuser", "hubspot", "+hgetall")
	p.address()
	if n := strings.Count(p.end(), "the Redis user lacks rights"); n != 1 {
		t.Errorf("it is logged %d times", n)
	}
}
