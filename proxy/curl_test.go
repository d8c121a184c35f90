package proxy_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"hubspot-auth-proxy/proxy"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/testkit"
)

// curl runs curl as the README has it, and returns what it prints.
func curl(t *testing.T, environ []string, args ...string) string {
	t.Helper()
	command := exec.CommandContext(t.Context(), "curl", append([]string{"--silent", "--show-error", "--max-time", "10"}, args...)...)
	command.Env = append(environ, "PATH="+os.Getenv("PATH"))
	printed, err := command.CombinedOutput()
	if err != nil {
		t.Errorf("curl: %v\n%s", err, printed)
	}
	return string(printed)
}

func TestCurlWorksInEveryWay(t *testing.T) {
	testkit.Need(t, "curl")
	authority, certificate := newCA(t)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, certificate, 0o600); err != nil {
		t.Fatal(err)
	}
	c := startKeyed(t, func(o *proxy.Options) { o.Intercept, o.PortalDomain = authority, "localhost" })
	bearer := func(client string) string { return "Authorization: Bearer " + c.key[client] }
	host := strings.Replace(c.addr, "127.0.0.1", staticPortal+".localhost", 1)
	via := "http://" + staticPortal + ":" + c.key["two"] + "@" + c.addr
	for name, test := range map[string]struct {
		environ []string
		args    []string
	}{
		"by prefix":                   {nil, []string{"-H", bearer("two"), c.url("/portals/" + staticPortal + "/a?b=c")}},
		"by host":                     {nil, []string{"-H", bearer("two"), "http://" + host + "/a?b=c"}},
		"by header":                   {nil, []string{"-H", bearer("two"), "-H", "X-HubSpot-Portal-Id: " + staticPortal, c.url("/a?b=c")}},
		"by client key":               {nil, []string{"-H", bearer("static"), c.url("/a?b=c")}},
		"by hapikey":                  {nil, []string{c.url("/a?hapikey=" + c.key["static"] + "&b=c")}},
		"over HTTP/2":                 {nil, []string{"--http2-prior-knowledge", "-H", bearer("static"), c.url("/a?b=c")}},
		"intercepted":                 {nil, []string{"-x", via, "--cacert", ca, "-H", "Authorization: Bearer placeholder", "https://api.hubapi.com/a?b=c"}},
		"intercepted, over HTTP/1.1":  {nil, []string{"-x", via, "--cacert", ca, "--http1.1", "https://api.hubspot.com/a?b=c"}},
		"intercepted, by environment": {[]string{"HTTPS_PROXY=" + via, "CURL_CA_BUNDLE=" + ca}, []string{"https://api.hubapi.com/a?b=c"}},
		"intercepted, after a 407":    {nil, []string{"-x", "http://" + c.addr, "--proxy-user", staticPortal + ":" + c.key["two"], "--proxy-anyauth", "--cacert", ca, "https://api.hubapi.com/a?b=c"}},
	} {
		t.Run(name, func(t *testing.T) {
			var echo hubspottest.Echo
			printed := curl(t, test.environ, test.args...)
			if err := json.Unmarshal([]byte(printed), &echo); err != nil || echo.Portal != staticPortal || echo.Target != "/a?b=c" {
				t.Errorf("%v, %s", err, printed)
			}
		})
	}
}
