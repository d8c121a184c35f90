package nodesdk_test

import (
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"hubspot-auth-proxy/tokens/hubspottest"
)

// site is two proxies before one fake HubSpot.
type site struct {
	hub         *hubspottest.Server
	proxy, open string // URLs: of one that wants client keys, and of one that wants none
	ca          string // the file that clients trust
}

func newSite(t *testing.T) site {
	t.Helper()
	s := site{hub: newHub(t)}
	t.Cleanup(func() {
		if violations := s.hub.Violations(); len(violations) > 0 {
			t.Errorf("HubSpot received what no well-behaved client sends: %q", violations)
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

// base returns the base URL of a client.
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

// settings are those of a script whose client comes in that way.
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

// everyWay are the ways that other clients than the SDK are tried in.
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
					"REFRESH_TOKEN="+s.hub.Connect("900")) // of a portal that the proxy does not know
				runScript(t, script, settings...)
				seen.wantUnchanged(t, "", least, w)
			})
		}
	}
}
