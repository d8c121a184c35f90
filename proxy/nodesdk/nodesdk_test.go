// Package nodesdk_test runs HubSpot's official SDK for Node (@hubspot/api-client) and
// other clients from npm, in the versions of package-lock.json, through the built program
// to the fake HubSpot. Only the base path and the token of each client are configured.
//
// The scripts check what the client's user gets. The Go tests check what HubSpot
// received. The tests are skipped where Node or the SDK is missing, except in CI, where
// they fail. `npm ci` in this folder installs the SDK.
package nodesdk_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// userAgent is the User-Agent header field that the SDK sends.
const userAgent = "hubspot-api-client-nodejs; 14.0.1"

// The client keys of the seed, and a placeholder for clients that need no key. All
// contain the canary, so that the tests find leaks.
const (
	keyOfMany = "hap_" + hubspottest.Canary + "-many-portals-0123456789abcdef"
	keyOfOne  = "hap_" + hubspottest.Canary + "-one-portal-0123456789abcdef"
	keyOfPAT  = "hap_" + hubspottest.Canary + "-static-0123456789abcdef"
	keyOfKey  = "hap_" + hubspottest.Canary + "-apikey-0123456789abcdef"
	noKey     = hubspottest.Canary + "-placeholder"
)

// way is how an app reaches a portal.
type way struct {
	portal     string
	credential string // the kind of credential that the proxy attaches, as in Echo.Credential
	anonymous  bool   // through the proxy that requires no client key
	prefix     bool   // /portals/ID in the base path
	host       bool   // ID.localhost in the base path
	proxied    bool   // through HTTPS_PROXY, with HubSpot's own base path
	token      string // the SDK's access token
}

var ways = map[string]way{
	"by prefix, without a client key":    {portal: "62511", credential: hubspottest.CredentialOAuth, anonymous: true, prefix: true, token: noKey},
	"by prefix, with a client key":       {portal: "62515", credential: hubspottest.CredentialOAuth, prefix: true, token: keyOfMany},
	"by host, with a client key":         {portal: "62512", credential: hubspottest.CredentialOAuth, host: true, token: keyOfMany},
	"intercepted":                        {portal: "62513", credential: hubspottest.CredentialOAuth, proxied: true, token: keyOfMany},
	"by client key":                      {portal: "62516", credential: hubspottest.CredentialOAuth, token: keyOfOne},
	"by client key, a private app":       {portal: "62517", credential: hubspottest.CredentialAccessToken, token: keyOfPAT},
	"by client key, a developer API key": {portal: "62518", credential: hubspottest.CredentialAPIKey, token: keyOfKey},
}

// seed writes the seed file of both proxies, with the portals of all ways. Only one of
// the proxies uses each OAuth portal, because they do not share a Redis.
func seed(t *testing.T, hub *hubspottest.Server) (path string) {
	t.Helper()
	hub.SetAccessToken("62517", "pat-na1-"+hubspottest.Canary)
	hub.SetAPIKey("62518", hubspottest.Canary+"-developer-key")
	type object = map[string]any
	text, err := json.Marshal(object{
		"portals": []object{
			{"id": 62511, "refresh_token": hub.Connect("62511")},
			{"id": 62512, "refresh_token": hub.Connect("62512")},
			{"id": 62513, "refresh_token": hub.Connect("62513")},
			{"id": 62515, "refresh_token": hub.Connect("62515")},
			{"id": 62516, "refresh_token": hub.Connect("62516")},
			{"id": 62517, "access_token": "pat-na1-" + hubspottest.Canary},
			{"id": 62518, "api_key": hubspottest.Canary + "-developer-key"},
		},
		"clients": []object{
			{"name": "many", "key": keyOfMany, "portals": []int{62512, 62513, 62515, 62516}},
			{"name": "one", "key": keyOfOne, "portals": []int{62516}},
			{"name": "pat", "key": keyOfPAT, "portals": []int{62517}},
			{"name": "key", "key": keyOfKey, "portals": []int{62518}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "seed.json")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestTheOfficialNodeSDKWorksUnchanged(t *testing.T) {
	needNode(t)
	s := newSite(t)
	hub := s.hub
	for name, w := range ways {
		t.Run(name, func(t *testing.T) {
			seen := watch(hub)
			unauthorized, tokenCalls := hub.Unauthorized(), hub.TokenCalls(w.portal)
			keyNeeded := "yes" // each request needs the key, except in a tunnel
			if w.anonymous || w.proxied {
				keyNeeded = ""
			}
			runScript(t, "sdk.mjs", append(ownOAuth(t, hub), append(s.settings(w), "KIND="+w.credential, "KEY_NEEDED="+keyNeeded)...)...)
			seen.wantUnchanged(t, userAgent, 40, w)

			// The scripts let the tokens expire at least nine times.
			unauthorized, tokenCalls = hub.Unauthorized()-unauthorized, hub.TokenCalls(w.portal)-tokenCalls
			if w.credential == hubspottest.CredentialOAuth && (unauthorized < 9 || tokenCalls < 9) {
				t.Errorf("%d requests with an expired token, and %d renewals", unauthorized, tokenCalls)
			}
		})
	}
	t.Run("two portals at once", func(t *testing.T) {
		seen := watch(hub)
		one, many := ways["by client key"], ways["by prefix, with a client key"]
		portals, err := json.Marshal([]map[string]string{
			{"portal": one.portal, "base": s.base(one), "token": one.token},
			{"portal": many.portal, "base": s.base(many), "token": many.token},
		})
		if err != nil {
			t.Fatal(err)
		}
		runScript(t, "portals.mjs", "HUB="+hub.URL, "PORTALS="+string(portals))
		seen.wantUnchanged(t, userAgent, 40, one, many)
	})
}

// newHub starts a fake HubSpot whose access tokens live 2 seconds, and whose refresh
// tokens can be used once.
func newHub(t *testing.T) *hubspottest.Server {
	t.Helper()
	hub := hubspottest.NewServer()
	t.Cleanup(hub.Close)
	serveCRM(t, hub)
	hub.SetToken(hubspottest.TokenBehaviour{Life: 2 * time.Second, Rotate: true})
	return hub
}

// ownOAuth returns the environment for the SDK's own calls of HubSpot's OAuth service,
// for a portal that the proxy does not know.
func ownOAuth(t *testing.T, hub *hubspottest.Server) []string {
	t.Helper()
	const portal, redirectURL = "900", "https://app.example.com/callback"
	location, err := hub.Authorize(hub.AuthorizeURL()+"?client_id="+hubspottest.ClientID+"&scope=oauth&redirect_uri="+redirectURL, portal)
	if err != nil {
		t.Fatal(err)
	}
	_, code, _ := strings.Cut(location, "?code=")
	return []string{
		"CODE=" + code, "REDIRECT_URL=" + redirectURL,
		"APP_ID=" + hubspottest.ClientID, "APP_SECRET=" + hubspottest.ClientSecret,
	}
}

// needNode skips the test if Node or the SDK is not installed. In CI it fails the test.
func needNode(t *testing.T) {
	t.Helper()
	testkit.Need(t, "node")
	if _, err := os.Stat("node_modules/@hubspot/api-client"); err != nil {
		testkit.Lacks(t, "HubSpot's SDK is not installed by npm ci")
	}
}

// runScript runs a script of this folder in Node, and fails the test if the script
// fails.
func runScript(t *testing.T, script string, settings ...string) {
	t.Helper()
	if _, err := os.Stat(script); err != nil { // makes go test run the test again when the script changes
		t.Fatal(err)
	}
	node := exec.CommandContext(t.Context(), "node", script)
	node.Env = append(settings, "PATH="+os.Getenv("PATH"))
	if output, err := node.CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s", script, err, output)
	}
}

// wantUnchanged checks every request that HubSpot received from clients that used these
// ways. An empty agent means any User-Agent. least is the smallest number of requests.
func (seen *requests) wantUnchanged(t *testing.T, agent string, least int, of ...way) {
	t.Helper()
	all := seen.list()
	if len(all) < least {
		t.Errorf("HubSpot received only %d requests", len(all))
	}
	for _, e := range all {
		text := fmt.Sprint(e.Target, e.Header)
		path, _, _ := strings.Cut(e.Target, "?")
		if path == "/oauth/2026-03/token" {
			continue // a token call of the proxy
		}
		for _, key := range []string{keyOfMany, keyOfOne, keyOfPAT, keyOfKey, noKey} {
			if strings.Contains(text, key) {
				t.Errorf("%s %s arrived with the client's own credential", e.Method, path)
			}
		}
		if agents := e.Header["User-Agent"]; agent != "" && !slices.Equal(agents, []string{agent}) {
			t.Errorf("%s %s arrived with the User-Agent %q", e.Method, path, agents)
		}
		own := strings.HasPrefix(path, "/oauth/")
		rightful := slices.ContainsFunc(of, func(w way) bool { return e.Portal == w.portal && e.Credential == w.credential })
		switch {
		case own && (e.Portal != "" || e.Header["Authorization"] != nil):
			t.Errorf("%s %s arrived with a credential", e.Method, path)
		case !own && !rightful:
			t.Errorf("%s %s arrived with the %s of portal %q", e.Method, path, e.Credential, e.Portal)
		}
	}
}
