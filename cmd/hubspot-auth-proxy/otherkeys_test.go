package main

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/redistest"
	"hubspot-auth-proxy/tokens/testkit"
)

// A proxy does not use a secret that is not sealed, or that is sealed with a key which it lacks.
func TestPortalSetStoresNothingThatTheProxiesCannotUse(t *testing.T) {
	t.Parallel()
	s := &stage{t: t, redis: redistest.Start(t), hub: hubspottest.NewServer()}
	t.Cleanup(s.hub.Close)
	token := "pat-na1-" + hubspottest.Canary
	s.hub.SetAccessToken("62516", token)
	a, b := "ENCRYPTION_KEYS="+sealKey(t, "a").Reveal(), sealKey(t, "b").Reveal()
	command := func(keys string, args ...string) (output string, err error) {
		var stdout, stderr testkit.Output
		err = run(t.Context(), args, []string{"REDIS_URL=" + s.redis.URL(), keys}, strings.NewReader(token), &stdout, &stderr)
		return stdout.String() + stderr.String(), err
	}
	set := []string{"portal", "set", "62516", "access_token"}

	const unused = "in use when a proxy runs with this REDIS_URL and REDIS_PREFIX; none runs now"
	for _, args := range [][]string{set, {"client", "add", "early", "--portals", "*"}} {
		if output, err := command(a, args...); err != nil || !strings.Contains(output, unused) {
			t.Errorf("before the proxy, %q: %v, %s", args, err, output)
		}
	}
	p := s.launch(a, "ALLOW_ANONYMOUS=true")
	p.address()
	rdb := s.redis.Client(t)
	testkit.Eventually(t, "the proxy has noted its keys", func() bool { return len(rdb.Keys(t.Context(), "hubspot:keyring:*").Val()) == 1 })
	for keys, want := range map[string]string{
		"": "a proxy does not use unsealed secrets (its ENCRYPTION_KEYS have a): set ENCRYPTION_KEYS here to the value that the proxies have",
		"ENCRYPTION_KEYS=" + b + "," + strings.TrimPrefix(a, "ENCRYPTION_KEYS="): `a proxy cannot open secrets that are sealed with key "b"`,
	} {
		output, err := command(keys, set...)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(output, "unsealed") {
			t.Errorf("%v, %s", err, output)
		}
	}
	if _, err := command("ENCRYPTION_KEYS="+b, "keys", "rotate"); err == nil || !strings.Contains(err.Error(), "nothing is sealed again: a proxy cannot open") {
		t.Errorf("keys rotate: %v", err)
	}
	if status, body := get(t, "http://"+p.address()+"/portals/62516/crm/v3/objects/contacts"); status != http.StatusOK {
		t.Errorf("the portal is not served: %d %s", status, body)
	}
	for _, args := range [][]string{set, {"client", "add", "late", "--portals", "*"}} {
		if output, err := command(a, args...); err != nil || !strings.Contains(output, "in use from now on") {
			t.Errorf("%q: %v, %s", args, err, output)
		}
	}
	if output, err := command("", append(set, "--force")...); err != nil || !strings.Contains(output, "each proxy uses it when it has the same ENCRYPTION_KEYS") {
		t.Errorf("--force: %v, %s", err, output)
	}
	wantNoSecret(t, p.end())
	if output, err := command("ENCRYPTION_KEYS="+b, set...); err != nil || !strings.Contains(output, unused) {
		t.Errorf("after the proxy has stopped: %v, %s", err, output)
	}
}

// A secret that cannot be read is not stored, so nothing is said about how it is stored.
func TestPortalSetWithoutASecretDoesNotSayThatItIsStored(t *testing.T) {
	t.Parallel()
	var stdout, stderr testkit.Output
	err := run(t.Context(), []string{"portal", "set", "62516", "access_token"}, []string{"REDIS_URL=" + redistest.Start(t).URL()}, strings.NewReader(""), &stdout, &stderr)
	if err == nil || errors.As(err, new(usageError)) || strings.Contains(stderr.String(), "stored") {
		t.Errorf("%v, %s", err, &stderr)
	}
}
