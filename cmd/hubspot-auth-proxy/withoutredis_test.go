package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/redistest"
	"hubspot-auth-proxy/tokens/testkit"
)

const seedWithoutRedis = `
portals:
  - {id: 1, access_token: canary-static}
  - {id: 2, access_token: canary-removed}
  - {id: 3, access_token: canary-old}
  - {id: 4, refresh_token: canary-refresh}
clients:
  - {name: seeded, key: hap_seeded, portals: ["*"]}
`

// The test starts a process while Redis does not answer, in two ways, and then lets Redis answer.
func TestCallsThatNeedNoRedisAreServedWithoutIt(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ away, back func(*redistest.Server) }{
		"Redis hangs":  {(*redistest.Server).Pause, (*redistest.Server).Resume},
		"Redis is off": {(*redistest.Server).Kill, (*redistest.Server).Restart},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			redis := redistest.Start(t, redistest.Persist())
			hub := hubspottest.NewServer()
			t.Cleanup(hub.Close)
			seed := filepath.Join(t.TempDir(), "seed.yaml")
			if err := os.WriteFile(seed, []byte(strings.ReplaceAll(seedWithoutRedis, "canary", hubspottest.Canary)), 0o600); err != nil {
				t.Fatal(err)
			}
			settings := []string{
				"REDIS_URL=" + redis.URL(), "UPSTREAM_URL=" + hub.URL, "SEED_FILE=" + seed, "ALLOW_ANONYMOUS=false",
				"HUBSPOT_CLIENT_ID=" + hubspottest.ClientID, "HUBSPOT_CLIENT_SECRET=" + hubspottest.ClientSecret,
			}
			for id, token := range map[string]string{"1": "static", "2": "removed", "3": "new"} {
				hub.SetAccessToken(id, hubspottest.Canary+"-"+token)
			}
			// An earlier process has applied the seed. Since then an operator has removed one
			// portal, and stored a new token for another.
			first := launch(t, "serve", settings...)
			first.address()
			first.end()
			command := func(stdin string, args ...string) string {
				t.Helper()
				var stdout testkit.Output
				if err := run(t.Context(), args, settings, strings.NewReader(stdin), &stdout, &testkit.Output{}); err != nil {
					t.Fatalf("%q: %v", args, err)
				}
				return strings.TrimSpace(stdout.String())
			}
			command("", "portal", "remove", "2")
			command(hubspottest.Canary+"-new", "portal", "set", "3", "access_token")
			stored := command("", "client", "add", "stored", "--portals", "*")

			tt.away(redis)
			admin := freePort(t)
			p := launch(t, "serve", append(settings, "ADMIN_ADDR="+admin)...)
			address := p.until(`waits for Redis.*?"address":"([^"]+)"`)[1]
			answers := func(portal, key string) string {
				t.Helper()
				began := time.Now()
				r := categoryOf(t, "http://"+address+"/portals/"+portal+"/crm/v3/objects/contacts", key)
				if took := time.Since(began); took > 2*time.Second {
					t.Errorf("portal %s was answered after %v", portal, took)
				}
				return r
			}
			wants := func(portal, key, want string) {
				t.Helper()
				if got := answers(portal, key); got != want {
					t.Errorf("portal %s with %.12s…: %q, want %q", portal, key, got, want)
				}
			}
			wants("1", "hap_seeded", "200 ")
			wants("4", "hap_seeded", "503 CREDENTIAL_UNAVAILABLE")
			wants("5", "hap_seeded", "503 CREDENTIAL_UNAVAILABLE")
			wants("1", stored, "503 CREDENTIAL_UNAVAILABLE")
			wants("1", "hap_unknown", "503 CREDENTIAL_UNAVAILABLE")
			wants("1", "", "401 CLIENT_UNAUTHENTICATED")
			if status, body := get(t, "http://"+admin+"/readyz"); status != http.StatusServiceUnavailable || !strings.Contains(body, `"redis":"awaited"`) {
				t.Errorf("readyz: %d %s", status, body)
			}

			tt.back(redis)
			p.until(`"the proxy is ready"`)
			wants("1", "hap_seeded", "200 ")
			wants("2", "hap_seeded", "403 PORTAL_NOT_CONNECTED")
			wants("3", stored, "200 ")
			wants("1", "hap_unknown", "401 CLIENT_UNAUTHENTICATED")
			if status, body := get(t, "http://"+admin+"/readyz"); status != http.StatusOK {
				t.Errorf("readyz: %d %s", status, body)
			}
			if text := p.end(); strings.Contains(text, hubspottest.Canary) {
				t.Errorf("a secret is printed:\n%s", text)
			}
		})
	}
}

// A sidecar whose settings have all credentials is ready without Redis. It still logs that Redis
// does not answer.
func TestASidecarThatNeedsNoRedisIsReadyWithoutIt(t *testing.T) {
	t.Parallel()
	hub := hubspottest.NewServer()
	t.Cleanup(hub.Close)
	hub.SetAccessToken("62516", hubspottest.Canary)
	admin := freePort(t)
	p := launch(t, "serve", "REDIS_URL=redis://user:"+hubspottest.Canary+"@127.0.0.1:1/0", "UPSTREAM_URL="+hub.URL, "ADMIN_ADDR="+admin,
		"HUBSPOT_PORTAL_ID=62516", "HUBSPOT_ACCESS_TOKEN="+hubspottest.Canary, "SERVE_PORTALS=62516")
	address := p.until(`waits for Redis.*?"address":"([^"]+)"`)[1]
	if got := categoryOf(t, "http://"+address+"/crm/v3/objects/contacts", ""); got != "200 " {
		t.Errorf("it answers %q", got)
	}
	if status, body := get(t, "http://"+admin+"/readyz"); status != http.StatusOK || !strings.Contains(body, `"redis":"awaited"`) {
		t.Errorf("readyz: %d %s", status, body)
	}
	if text := p.end(); strings.Contains(text, hubspottest.Canary) || !strings.Contains(text, "check REDIS_URL") {
		t.Errorf("it prints:\n%s", text)
	}
}

// categoryOf returns the status and category of an answer.
func categoryOf(t *testing.T, url, key string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if key != "" {
		request.Header.Set("Authorization", "Bearer "+key)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	return response.Status[:4] + response.Header.Get("X-Hubspot-Auth-Proxy-Error")
}
