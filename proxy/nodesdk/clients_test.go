package nodesdk_test

import (
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"hubspot-auth-proxy/tokens/hubspottest"
)

// site is two proxies that use one fake HubSpot.
type site struct {
	hub         *hubspottest.Server
	proxy, open string // the URLs of the proxy that requires client keys, and of the other
	ca          string // the file with the certificate authority that clients trust
}

func newSite(t *testing.T) site {
	t.Helper()
	s := site{hub: newHub(t)}
	t.Cleanup(func() {
		if violations := s.hub.Violations(); len(violations) > 0 {
			t.Errorf("HubSpot received requests that no well-behaved client sends: %q", violations)
		}
	})
	program, folder := build(t), t.TempDir()
	if output, err := exec.CommandContext(t.Context(), program, "ca", "generate", "--out", folder).CombinedOutput(); err != nil {
		t.Fatalf("ca generate: %v\n%s", err, output)
	}
	s.ca = filepath.Join(folder, "ca.pem")
	settings := []string{"SEED_FILE=" + seed(t, s.hub), "INTERCEPT_CA_CERT_FILE=" + s.ca, "INTERCEPT_CA_KEY_FILE=" + filepath.Join(folder, "ca-key.pem")}
	s.open = start(t, program, s.hub, settings...)
	s.proxy = start(t, program, s.hub, append(settings, "ALLOW_ANONYMOUS=false", "PORTAL_DOMAIN=localhost")...)
	return s
}

// base returns the base URL of a client that reaches its portal in that way.
func (s site) base(w way) string {
	address := s.proxy
	switch {
	case w.anonymous:
		address = s.open
	case w.host:
		address = strings.Replace(address, "127.0.0.1", w.portal+".localhost", 1)
	}
	if w.prefix {
		address += "/portals/" + w.portal
	}
	return address
}

// settings returns the environment of a script whose client reaches its portal in that
// way.
func (s site) settings(w way) []string {
	settings := []string{"HUB=" + s.hub.URL, "PORTAL=" + w.portal}
	if w.proxied {
		via := strings.Replace(s.proxy, "http://", "http://"+url.UserPassword(w.portal, w.token).String()+"@", 1)
		return append(settings, "HTTPS_PROXY="+via, "NODE_EXTRA_CA_CERTS="+s.ca, "TOKEN="+noKey)
	}
	if w.host {
		settings = append(settings, "NODE_OPTIONS=--require ./resolve.cjs")
	}
	return append(settings, "BASE="+s.base(w), "TOKEN="+w.token)
}

// everyWay returns the names of the ways in which clients other than the SDK are tested.
func everyWay() []string {
	return []string{"by prefix, with a client key", "by host, with a client key", "by client key", "intercepted"}
}

func TestOtherClientsOfNPMWorkUnchanged(t *testing.T) {
	needNode(t)
	s := newSite(t)
	for script, least := range map[string]int{"hubspot.mjs": 15, "mcp.mjs": 5} {
		for _, name := range everyWay() {
			t.Run(script+" "+name, func(t *testing.T) {
				w, seen := ways[name], watch(s.hub)
				settings := append(s.settings(w), "APP_ID="+hubspottest.ClientID, "APP_SECRET="+hubspottest.ClientSecret,
					"REFRESH_TOKEN="+s.hub.Connect("900")) // the proxy does not know this portal
				runScript(t, script, settings...)
				seen.wantUnchanged(t, "", least, w)
			})
		}
	}
}
