package main

import (
	"bytes"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/secret"
	"hubspot-auth-proxy/tokens/testkit"
)

// invited is a proxy whose portals are connected with links.
type invited struct {
	*stage
	p       *process
	admin   string
	environ []string // of commands
}

func newInvited(t *testing.T) *invited {
	t.Helper()
	s := newStage(t)
	p, admin := s.connectable()
	p.address()
	return &invited{stage: s, p: p, admin: admin, environ: []string{
		"REDIS_URL=" + s.redis.URL(), "UPSTREAM_URL=" + s.hub.URL, "HUBSPOT_CLIENT_ID=" + hubspottest.ClientID,
		"HUBSPOT_CLIENT_SECRET=" + hubspottest.ClientSecret, "HUBSPOT_REDIRECT_URL=" + admin + "/callback",
		"HUBSPOT_AUTHORIZE_URL=" + s.hub.AuthorizeURL(), "HUBSPOT_SCOPES=oauth",
	}}
}

// command runs a command, and returns its output. settings replace the settings of the proxy.
func (v *invited) command(args []string, stdin string, settings ...string) string {
	v.t.Helper()
	var stdout bytes.Buffer
	if err := run(v.t.Context(), args, slices.Concat(v.environ, settings), strings.NewReader(stdin), &stdout, io.Discard); err != nil {
		v.t.Fatalf("%q: %v", args, err)
	}
	return strings.TrimSpace(stdout.String())
}

func (v *invited) link(flags ...string) string {
	v.t.Helper()
	return v.command(append([]string{"portal", "link"}, flags...), "")
}

// follow consents at an authorize URL for the portal, and returns the page that the browser then
// shows.
func (v *invited) follow(someone *person, authorize, portal string) (status int, page string) {
	v.t.Helper()
	back, err := v.hub.Authorize(authorize, portal)
	if err != nil {
		v.t.Fatal(err)
	}
	status, page, _ = someone.open(back)
	return status, page
}

// credential returns the portal's kind of credential, or why it is not served.
func (v *invited) credential(portal string) string {
	v.t.Helper()
	r := v.p.portal(portal, "")
	if r.served(portal) {
		return r.echo.Credential
	}
	return r.category
}

const staticSecret = "pat-na1-" + hubspottest.Canary

func TestALinkDoesNotReplaceNewerCredentials(t *testing.T) {
	t.Parallel()
	v := newInvited(t)
	v.hub.SetAccessToken("62515", staticSecret)
	set := func() { v.command([]string{"portal", "set", "62515", "access_token"}, staticSecret) }
	connect := func() {
		if status, page := v.follow(&person{t: t}, v.link("--portal", "62515"), "62515"); status != http.StatusOK {
			t.Fatalf("a new link: %d\n%s", status, page)
		}
	}
	for _, flags := range [][]string{{"--portal", "62515"}, {"--any"}} {
		for _, tt := range []struct {
			name          string
			before, after func()
			want          string
		}{
			{"removed", connect, func() { v.command([]string{"portal", "remove", "62515"}, "") }, "PORTAL_NOT_CONNECTED"},
			{"set", func() {}, set, hubspottest.CredentialAccessToken},
			{"connected", func() {}, connect, hubspottest.CredentialOAuth},
		} {
			tt.before()
			old := v.link(flags...)
			tt.after()
			status, page := v.follow(&person{t: t}, old, "62515")
			if status != http.StatusConflict || !strings.Contains(page, "was changed since") || !strings.Contains(page, "ask for a new one") {
				t.Errorf("%s, link %v: status %d\n%s", tt.name, flags, status, page)
			}
			testkit.Eventually(t, tt.name+" stays", func() bool { return v.credential("62515") == tt.want })
		}
	}
	connect() // a new link replaces them
	wantNoSecret(t, v.p.end())
}

func TestALinkWorksAfterARenewalAndAfterAnEarlierRemoval(t *testing.T) {
	t.Parallel()
	v := newInvited(t)
	if status, page := v.follow(&person{t: t}, v.link("--portal", "62515"), "62515"); status != http.StatusOK {
		t.Fatalf("%d\n%s", status, page)
	}
	link := v.link("--portal", "62515")
	v.hub.Expire("62515")
	testkit.Eventually(t, "the token is renewed", func() bool { return v.p.portal("62515", "").served("62515") && v.hub.TokenCalls("62515") > 0 })
	if status, page := v.follow(&person{t: t}, link, "62515"); status != http.StatusOK {
		t.Errorf("after a renewal: %d\n%s", status, page)
	}
	v.command([]string{"portal", "remove", "62515"}, "")
	if status, page := v.follow(&person{t: t}, v.link("--any"), "62515"); status != http.StatusOK {
		t.Errorf("after the removal: %d\n%s", status, page)
	}
}

func TestALinkWithoutAPortalDoesNotReplaceAStaticToken(t *testing.T) {
	t.Parallel()
	v := newInvited(t)
	v.hub.SetAccessToken("62515", staticSecret)
	seed := tokens.Seed{Portal: "62515", Kind: tokens.AccessToken, Secret: secret.New(staticSecret)}
	if err := v.source().Set(t.Context(), seed, "test"); err != nil {
		t.Fatal(err)
	}
	someone := &person{t: t}
	begin := func(query string) string {
		_, _, authorize := someone.open(v.admin + "/connect" + query)
		return authorize
	}
	for name, authorize := range map[string]func() string{
		"link --any": func() string { return v.link("--any") },
		"/connect":   func() string { return begin("") },
	} {
		status, page := v.follow(someone, authorize(), "62515")
		if status != http.StatusConflict || !strings.Contains(page, "/connect?portal=62515") {
			t.Errorf("%s: status %d\n%s", name, status, page)
		}
		if got := v.credential("62515"); got != hubspottest.CredentialAccessToken {
			t.Errorf("%s: the portal has %s", name, got)
		}
	}
	if status, page := v.follow(someone, begin("?portal=62515"), "62515"); status != http.StatusOK || v.credential("62515") != hubspottest.CredentialOAuth {
		t.Errorf("with its name: status %d\n%s", status, page)
	}
}

func TestALinkWorksOnceEvenIfRedisLosesItsData(t *testing.T) {
	t.Parallel()
	v := newInvited(t)
	used, unused := v.link("--any"), v.link("--portal", "62516")
	if status, page := v.follow(&person{t: t}, used, "62515"); status != http.StatusOK {
		t.Fatalf("%d\n%s", status, page)
	}
	client := v.redis.Client(t)
	if err := client.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	// Before and after the proxy has noticed the loss.
	for _, link := range []string{used, unused} {
		status, page := v.follow(&person{t: t}, link, "62516")
		if status != http.StatusBadRequest || !strings.Contains(page, "has lost its data") || !strings.Contains(page, "ask for a new one") {
			t.Errorf("status %d\n%s", status, page)
		}
	}
	if got := v.credential("62516"); got != "PORTAL_NOT_CONNECTED" && got != "CREDENTIAL_UNAVAILABLE" {
		t.Errorf("the portal has %s", got)
	}
	if status, page := v.follow(&person{t: t}, v.link("--portal", "62516"), "62516"); status != http.StatusOK {
		t.Errorf("a new link: %d\n%s", status, page)
	}
}

func TestALinkOfAnotherAppOrRedirectURLIsRefused(t *testing.T) {
	t.Parallel()
	v := newInvited(t)
	own, _ := url.Parse(v.link("--any"))
	for _, setting := range []string{"HUBSPOT_CLIENT_ID=staging", "HUBSPOT_REDIRECT_URL=http://localhost:8081/callback"} {
		foreign, _ := url.Parse(v.command([]string{"portal", "link", "--any"}, "", setting))
		// Anyone can put the state into another address.
		query := own.Query()
		query.Set("state", foreign.Query().Get("state"))
		address := *own
		address.RawQuery = query.Encode()
		status, page := v.follow(&person{t: t}, address.String(), "62515")
		if status != http.StatusBadRequest || !strings.Contains(page, "another HUBSPOT_CLIENT_ID or HUBSPOT_REDIRECT_URL") {
			t.Errorf("%s: status %d\n%s", setting, status, page)
		}
	}
	if n := v.hub.TokenCallsTotal(); n != 0 {
		t.Errorf("a code was exchanged: %d token calls", n)
	}
	wantNothingStored(t, v.stage)
}

func TestALinkWorksAfterARestartOfTheProxy(t *testing.T) {
	t.Parallel()
	v := newInvited(t)
	link := v.link("--portal", "62515")
	v.p.end()
	again := v.launch("ADMIN_ADDR="+strings.TrimPrefix(v.admin, "http://"), "HUBSPOT_REDIRECT_URL="+v.admin+"/callback", "HUBSPOT_SCOPES=oauth")
	again.address()
	if status, page := v.follow(&person{t: t}, link, "62515"); status != http.StatusOK {
		t.Errorf("%d\n%s", status, page)
	}
}
