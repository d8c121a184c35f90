package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hubspot-auth-proxy/cmd/hubspot-auth-proxy/seeding"
	"hubspot-auth-proxy/proxy/clients"
	"hubspot-auth-proxy/proxy/wire"
	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/redistest"
	"hubspot-auth-proxy/tokens/seal"
	"hubspot-auth-proxy/tokens/secret"
	"hubspot-auth-proxy/tokens/testkit"
)

// mount is a folder with a file seed.yaml, as Kubernetes mounts a Secret:
//
//	seed.yaml -> ..data/seed.yaml
//	..data    -> ..1
//	..1/seed.yaml
type mount struct {
	t       *testing.T
	folder  string
	version int
}

func newMount(t *testing.T, content string) *mount {
	t.Helper()
	m := &mount{t: t, folder: t.TempDir()}
	m.put(content)
	if err := os.Symlink(filepath.Join("..data", "seed.yaml"), m.path()); err != nil {
		t.Fatal(err)
	}
	return m
}

func (m *mount) path() string { return filepath.Join(m.folder, "seed.yaml") }

// put replaces the content as Kubernetes does: by the rename of a symlink.
func (m *mount) put(content string) {
	m.t.Helper()
	m.version++
	name := fmt.Sprintf("..%d", m.version)
	for _, step := range []func() error{
		func() error { return os.Mkdir(filepath.Join(m.folder, name), 0o755) },
		func() error { return os.WriteFile(filepath.Join(m.folder, name, "seed.yaml"), []byte(content), 0o644) },
		func() error { return os.Symlink(name, filepath.Join(m.folder, "..data_tmp")) },
		func() error {
			return os.Rename(filepath.Join(m.folder, "..data_tmp"), filepath.Join(m.folder, "..data"))
		},
		func() error { return os.RemoveAll(filepath.Join(m.folder, fmt.Sprintf("..%d", m.version-1))) },
	} {
		if err := step(); err != nil {
			m.t.Fatal(err)
		}
	}
}

// stage is a fake HubSpot and a real Redis, for processes of the program.
type stage struct {
	t     *testing.T
	hub   *hubspottest.Server
	redis *redistest.Server
}

func newStage(t *testing.T, options ...redistest.Option) *stage {
	t.Helper()
	s := &stage{t: t, redis: redistest.Start(t, options...), hub: hubspottest.NewServer()}
	t.Cleanup(s.hub.Close)
	return s
}

// launch runs the proxy on the stage.
func (s *stage) launch(settings ...string) *process {
	s.t.Helper()
	return launch(s.t, "serve", append(s.settings(), settings...)...)
}

// settings lead a process to the stage.
func (s *stage) settings() []string {
	return []string{
		"UPSTREAM_URL=" + s.hub.URL,
		"HUBSPOT_CLIENT_ID=" + hubspottest.ClientID,
		"HUBSPOT_CLIENT_SECRET=" + hubspottest.ClientSecret,
		"REDIS_URL=" + s.redis.URL(),
	}
}

// source opens the stage's Redis as a command does.
func (s *stage) source(keys ...secret.Text) *tokens.Source {
	s.t.Helper()
	var list []string
	for _, key := range keys {
		list = append(list, key.Reveal())
	}
	ring, err := seal.Parse(secret.New(strings.Join(list, ",")))
	if err != nil {
		s.t.Fatal(err)
	}
	source := tokens.NewSource(tokens.Options{Redis: s.redis.Client(s.t), Prefix: "hubspot:", Keys: ring})
	s.t.Cleanup(func() { _ = source.Close(context.Background()) })
	return source
}

// clients are those in the stage's Redis.
func (s *stage) clients() clients.Store {
	return clients.Store{Redis: s.redis.Client(s.t), Prefix: "hubspot:"}
}

// end ends a process as an operator does, and returns what it has printed.
func (p *process) end() string {
	p.t.Helper()
	p.terminate()
	if status := p.exit(); status != 0 {
		p.t.Errorf("exit status %d", status)
	}
	return p.stdout.String() + p.stderr.String()
}

// reply is an answer of the proxy.
type reply struct {
	status   int
	body     string
	category string // of the proxy's own answers
	echo     hubspottest.Echo
}

// served reports whether HubSpot has answered for the portal.
func (r reply) served(portal string) bool {
	return r.status == http.StatusOK && r.echo.Portal == portal
}

func (r reply) String() string {
	return fmt.Sprintf("%d %s portal %q", r.status, r.category, r.echo.Portal)
}

// call asks the proxy; a key is sent as SDKs do.
func (p *process) call(method, path, key string) reply {
	p.t.Helper()
	request, err := http.NewRequest(method, "http://"+p.address()+path, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	if key != "" {
		request.Header.Set("Authorization", "Bearer "+key)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		p.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	r := reply{status: response.StatusCode, body: string(body), category: response.Header.Get("X-Hubspot-Auth-Proxy-Error")}
	r.echo, _ = hubspottest.DecodeEcho(strings.NewReader(r.body))
	return r
}

// portal calls for the portal.
func (p *process) portal(portal, key string) reply {
	p.t.Helper()
	return p.call("GET", "/portals/"+portal+"/crm/v3/objects/contacts", key)
}

// throughout fails the test if it is not so at any time in the duration.
func throughout(t *testing.T, d time.Duration, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(d); time.Now().Before(deadline); <-time.After(50 * time.Millisecond) {
		if !so() {
			t.Fatalf("not all the time: %s", what)
		}
	}
}

func wantNoSecret(t *testing.T, printed string) {
	t.Helper()
	for _, secret := range []string{hubspottest.Canary, wire.KeyPrefix} {
		if at := strings.Index(printed, secret); at >= 0 {
			t.Errorf("a secret is printed: …%s…", printed[max(0, at-300):min(len(printed), at+100)])
		}
	}
}

const staticToken = "pat-na1-" + hubspottest.Canary

func TestChangesOfTheSeedFileTakeEffect(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.hub.SetAccessToken("2", staticToken+"-2")
	s.hub.SetAPIKey("3", "key-"+hubspottest.Canary)
	s.hub.SetAccessToken("4", staticToken+"-4")
	portals := fmt.Sprintf("portals:\n- {id: 1, name: Acme, refresh_token: %s}\n- {id: 2, access_token: %s-2}\n- {id: 3, api_key: key-%s}\n",
		s.hub.Connect("1"), staticToken, hubspottest.Canary)
	fourth := "- {id: 4, access_token: " + staticToken + "-4}\n"
	reports := fmt.Sprintf("clients:\n- {name: reports, key: hap_reports-%s, portals: ['*']}\n", hubspottest.Canary)
	billing := "- {name: billing, key_sha256: " + clients.Hash(secret.New("hap_billing")) + ", portals: [1, 2]}\n"
	key := "hap_reports-" + hubspottest.Canary
	m := newMount(t, portals+reports+billing)
	p := s.launch("SEED_FILE="+m.path(), "ALLOW_ANONYMOUS=false")
	p.until(`which somebody may guess.*"clients":\["reports"\]`)

	for portal, credential := range map[string]string{"1": hubspottest.CredentialOAuth, "2": hubspottest.CredentialAccessToken, "3": hubspottest.CredentialAPIKey} {
		if r := p.portal(portal, key); !r.served(portal) || r.echo.Credential != credential {
			t.Errorf("portal %s: %v, %q", portal, r, r.echo.Credential)
		}
	}
	if r := p.portal("1", "hap_billing"); !r.served("1") {
		t.Errorf("billing: %v", r)
	}
	if r := p.portal("4", key); r.category != "PORTAL_NOT_CONNECTED" {
		t.Errorf("portal 4: %v", r)
	}

	m.put(portals + fourth + reports)
	testkit.Eventually(t, "a portal that was added to the file is served", func() bool { return p.portal("4", key).served("4") })
	testkit.Eventually(t, "the key of a client that was removed from the file is refused", func() bool { return p.portal("1", "hap_billing").status == 401 })

	m.put("portals:\n- {id: 5, acess_token: " + staticToken + "-5}\nclients: []\n")
	p.until(`line 2, column 11: .*acess_token`)
	// This is longer than two polls of the file.
	throughout(t, 2*seeding.PollInterval+time.Second, "the previous content is served", func() bool { return p.portal("4", key).served("4") })
	if n := strings.Count(p.stderr.String(), "column 11"); n != 1 {
		t.Errorf("the fault was logged %d times:\n%s", n, p.stderr.String())
	}

	m.put(portals + fourth + reports + billing)
	testkit.Eventually(t, "the file is followed again", func() bool { return p.portal("1", "hap_billing").served("1") })
	wantNoSecret(t, p.end())
}

func TestASeedFileThatNeedsMissingSettingsIsNotUsed(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.hub.SetAccessToken("1", staticToken)
	s.hub.SetAccessToken("2", staticToken+"-2")
	first := "portals:\n- {id: 2, access_token: " + staticToken + "-2}\n"
	m := newMount(t, first)
	p := launch(t, "serve", "UPSTREAM_URL="+s.hub.URL, "REDIS_URL="+s.redis.URL(), "SEED_FILE="+m.path(),
		"HUBSPOT_PORTAL_ID=1", "HUBSPOT_ACCESS_TOKEN="+staticToken)
	for portal := range 2 {
		if id := fmt.Sprint(portal + 1); !p.portal(id, "").served(id) {
			t.Fatalf("portal %s: %v", id, p.portal(id, ""))
		}
	}
	m.put(first + "- {id: 1, access_token: " + staticToken + "-other}\n- {id: 3, refresh_token: " + s.hub.Connect("3") + "}\n")
	p.until(`HUBSPOT_PORTAL_ID: names portal 1, and so does SEED_FILE.*HUBSPOT_CLIENT_ID: is not set, although required`)
	throughout(t, seeding.PollInterval+time.Second, "the environment's portal is served, the file's third is not", func() bool {
		return p.portal("1", "").served("1") && p.portal("2", "").served("2") && p.portal("3", "").category == "PORTAL_NOT_CONNECTED"
	})
	wantNoSecret(t, p.end())
}

func TestASeedIsAppliedOnce(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.hub.SetToken(hubspottest.TokenBehaviour{Rotate: true})
	s.hub.SetAccessToken("2", staticToken+"-b") // the first value is no longer good
	file := func(refresh, static string) string {
		return fmt.Sprintf("portals:\n- {id: 1, refresh_token: %s}\n- {id: 2, access_token: %s-%s}\n", refresh, staticToken, static)
	}
	first := s.hub.Connect("1")
	m := newMount(t, file(first, "a"))
	start := func() *process { return s.launch("SEED_FILE=" + m.path()) }

	p := start()
	if r := p.portal("1", ""); !r.served("1") { // the refresh token of the file has ended now
		t.Fatal(r)
	}
	if r := p.portal("2", ""); r.status != http.StatusUnauthorized || r.category != "" {
		t.Errorf("HubSpot's 401 is due: %v", r)
	}
	p.end()

	s.hub.Expire("1")
	p = start()
	if r := p.portal("1", ""); !r.served("1") {
		t.Errorf("after a restart the refresh token that HubSpot gave is gone: %v", r)
	}
	m.put(file(first, "b"))
	testkit.Eventually(t, "a new static token takes effect", func() bool { return p.portal("2", "").served("2") })
	p.end()

	m.put(file(first, "a")) // a pod that was rolled back
	p = start()
	if r := p.portal("2", ""); !r.served("2") {
		t.Errorf("an old value came back: %v", r)
	}
	second := s.hub.Connect("1") // ends the former grant
	s.hub.Expire("1")
	m.put(file(second, "a"))
	testkit.Eventually(t, "a new grant takes effect", func() bool { return p.portal("1", "").served("1") })
	p.end()

	if err := s.source().Remove(t.Context(), "1", "test"); err != nil {
		t.Fatal(err)
	}
	p = start()
	throughout(t, seeding.PollInterval+time.Second, "a removed portal stays removed", func() bool {
		return p.portal("1", "").category == "PORTAL_NOT_CONNECTED" && p.portal("2", "").served("2")
	})
	m.put(file(s.hub.Connect("1"), "a"))
	testkit.Eventually(t, "a new value brings the portal back", func() bool { return p.portal("1", "").served("1") })
	p.end()
}

func TestALostRedisIsFilledAgain(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.hub.SetToken(hubspottest.TokenBehaviour{Rotate: true})
	s.hub.SetAccessToken("2", staticToken)
	s.hub.SetAccessToken("3", staticToken+"-3")
	// Nobody calls for portal 2: only the seed knows it afterwards.
	m := newMount(t, fmt.Sprintf("portals:\n- {id: 1, refresh_token: %s}\n- {id: 2, access_token: %s}\n", s.hub.Connect("1"), staticToken))
	settings := []string{"SEED_FILE=" + m.path(), "ALLOW_ANONYMOUS=false"}
	a, b := s.launch(settings...), s.launch(settings...)
	key := clients.NewKey()
	if err := s.clients().Add(t.Context(), clients.Client{Name: "added", KeySHA256: clients.Hash(key), Portals: []string{"*"}}); err != nil {
		t.Fatal(err)
	}
	// Nor does the seed know this one, but both processes do.
	if err := s.source().Set(t.Context(), tokens.Seed{Portal: "3", Kind: tokens.AccessToken, Secret: secret.New(staticToken + "-3")}, "test"); err != nil {
		t.Fatal(err)
	}
	for _, p := range []*process{a, b} {
		testkit.Eventually(t, "the client is known", func() bool { return p.portal("3", key.Reveal()).served("3") })
	}
	if r := a.portal("1", key.Reveal()); !r.served("1") { // b does not hold it
		t.Fatal(r)
	}

	s.redis.Restart()
	back := s.redis.Client(t)
	for _, name := range []string{"portal:{1}", "portal:{2}", "portal:{3}", "clients"} {
		testkit.Eventually(t, name+" is in Redis again", func() bool { return back.Exists(t.Context(), "hubspot:"+name).Val() == 1 })
	}
	testkit.Eventually(t, "the access token that process a holds is in Redis again", func() bool {
		return back.HGet(t.Context(), "hubspot:portal:{1}", "access_token").Val() != ""
	})
	// This process knows nothing from a file or from memory.
	c := s.launch("ALLOW_ANONYMOUS=false")
	s.hub.Expire("1")
	for _, portal := range []string{"1", "2", "3"} {
		for name, p := range map[string]*process{"a": a, "b": b, "new": c} {
			if r := p.portal(portal, key.Reveal()); !r.served(portal) {
				t.Errorf("process %s, portal %s: %v", name, portal, r)
			}
		}
	}
	if n := s.hub.TokenCalls("1"); n != 2 {
		t.Errorf("the token endpoint was called %d times, 2 are due", n)
	}
	for _, p := range []*process{a, b, c} {
		wantNoSecret(t, p.end())
	}
}

func TestAFileThatChangesWhileRedisIsAwayIsAppliedLater(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.hub.SetAccessToken("1", staticToken+"-1")
	s.hub.SetAccessToken("2", staticToken+"-2")
	client := "clients:\n- {name: one, key: hap_one, portals: ['*']}\n"
	first := "portals:\n- {id: 1, access_token: " + staticToken + "-1}\n"
	second := first + "- {id: 2, access_token: " + staticToken + "-2}\n" + client
	m := newMount(t, first+client+"- {name: two, key: hap_two, portals: ['*']}\n")
	p := s.launch("SEED_FILE="+m.path(), "ALLOW_ANONYMOUS=false")
	if r := p.portal("1", "hap_two"); !r.served("1") {
		t.Fatal(r)
	}
	s.redis.Kill()
	m.put(second)
	testkit.Eventually(t, "clients need no Redis", func() bool { return p.portal("1", "hap_two").status == 401 })
	p.until("could not be stored; the proxy keeps trying")
	throughout(t, 2*seeding.PollInterval+time.Second, "what is known is served", func() bool { return p.portal("1", "hap_one").served("1") })
	s.redis.Restart()
	testkit.Eventually(t, "the new portal is served", func() bool { return p.portal("2", "hap_one").served("2") })

	if err := os.Remove(m.path()); err != nil {
		t.Fatal(err)
	}
	p.until("the seed file cannot be read")
	throughout(t, 2*seeding.PollInterval+time.Second, "without the file all is as before", func() bool { return p.portal("2", "hap_one").served("2") })
	printed := p.end()
	for _, once := range []string{"could not be stored; the proxy keeps trying", "the seed file cannot be read"} {
		if n := strings.Count(printed, once); n != 1 {
			t.Errorf("%q is logged %d times:\n%s", once, n, printed)
		}
	}
	wantNoSecret(t, printed)
}

func TestProcessesThatStartAtOnceSeedOnce(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.hub.SetToken(hubspottest.TokenBehaviour{Rotate: true})
	s.hub.SetAccessToken("2", staticToken)
	m := newMount(t, fmt.Sprintf("portals:\n- {id: 1, refresh_token: %s}\n- {id: 2, access_token: %s}\n", s.hub.Connect("1"), staticToken))
	a, b := s.launch("SEED_FILE="+m.path()), s.launch("SEED_FILE="+m.path())
	for _, p := range []*process{a, b} {
		for _, portal := range []string{"1", "2"} {
			if r := p.portal(portal, ""); !r.served(portal) {
				t.Errorf("portal %s: %v", portal, r)
			}
		}
	}
	if printed := a.end() + b.end(); strings.Count(printed, `"portal was set"`) != 2 {
		t.Errorf("each portal should be set once:\n%s", printed)
	}
	if n := s.hub.TokenCalls("1"); n != 1 {
		t.Errorf("%d calls of the token endpoint", n)
	}
}

func TestFaultsOfTheSeedFileAreReportedTogether(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		seed     string
		settings []string
		want     []string
	}{
		"its own": {
			seed: "portals:\n- {id: x, access_token: " + staticToken + "}\n- {id: 2}\nclients:\n- {name: a, key: " + staticToken + ", portals: []}\n",
			want: []string{"SEED_FILE: line 2, column 8: ", "SEED_FILE: line 3, column 3: ", "SEED_FILE: line 5, column 18: ", "SEED_FILE: line 5, column "},
		},
		"with the environment": {
			seed:     "portals:\n- {id: 62515, access_token: " + staticToken + "}\n- {id: 2, refresh_token: " + staticToken + "}\n",
			settings: []string{"HUBSPOT_PORTAL_ID=62515", "HUBSPOT_ACCESS_TOKEN=" + staticToken},
			want:     []string{"HUBSPOT_PORTAL_ID: names portal 62515, and so does SEED_FILE", "HUBSPOT_CLIENT_ID: is not set"},
		},
		"beside those of Redis and TLS": {
			seed:     "portals: 1",
			settings: []string{"REDIS_URL=redis://127.0.0.1/?nothing=" + hubspottest.Canary, "TLS_CERT_FILE=main.go", "TLS_KEY_FILE=main.go"},
			want:     []string{"SEED_FILE: line 1, column 10: ", "REDIS_URL: ", "TLS_CERT_FILE: "},
		},
		"empty": {want: []string{"SEED_FILE: "}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMount(t, tt.seed)
			here, err := os.Getwd()
			if err != nil {
				t.Fatal(err)
			}
			settings := []string{"SEED_FILE=" + m.path()}
			for _, setting := range tt.settings {
				settings = append(settings, strings.Replace(setting, "=main.go", "="+filepath.Join(here, "main.go"), 1))
			}
			p := launch(t, "serve", settings...)
			if status := p.exit(); status != 2 {
				t.Errorf("exit status %d", status)
			}
			for _, want := range tt.want {
				if !strings.Contains("\n"+p.stderr.String(), "\n"+want) {
					t.Errorf("no line begins with %q:\n%s", want, p.stderr.String())
				}
			}
			wantNoSecret(t, strings.ReplaceAll(p.stderr.String(), "hap_, or has nothing", ""))
		})
	}
}
