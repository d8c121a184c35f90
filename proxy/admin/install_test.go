package admin_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"hubspot-auth-proxy/proxy/admin"
	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspottest"
)

// newInstallRig starts a listener that accepts installations.
func newInstallRig(t *testing.T) *rig {
	t.Helper()
	return newRig(t, func(r *rig) { r.options.MarketplaceInstall = true })
}

// install begins an installation of the portal, and returns where HubSpot sends the
// browser.
func (r *rig) install(portal string, signIn bool) string {
	r.Helper()
	address, err := r.hub.Install(r.options.RedirectURL, portal, signIn)
	if err != nil {
		r.Fatal(err)
	}
	return address
}

// signIn goes through step=authorize, and returns where HubSpot sends the browser
// next.
func (r *rig) signIn(portal string) string {
	r.Helper()
	a := r.get(r.install(portal, true))
	if a.StatusCode != http.StatusFound {
		r.Fatalf("step=authorize: status %d: %s", a.StatusCode, a.body)
	}
	address, err := r.hub.Finalize(a.Header.Get("Location"))
	if err != nil {
		r.Fatal(err)
	}
	return address
}

// state returns the portal's state in the records, empty if it has none.
func (r *rig) state(id string) tokens.State {
	r.Helper()
	p, err := r.portals.Show(r.Context(), id)
	if err != nil {
		return ""
	}
	return p.State
}

// refusesInstall checks that the answer is a page of that status with those words.
func (r *rig) refusesInstall(what string, a answer, status int, words ...string) {
	r.Helper()
	if a.StatusCode != status || a.Header.Get("Location") != "" {
		r.Errorf("%s: status %d, want %d, Location %q: %s", what, a.StatusCode, status, a.Header.Get("Location"), a.body)
	}
	for _, w := range words {
		if !strings.Contains(a.body, w) {
			r.Errorf("%s: the page does not say %q: %s", what, w, a.body)
		}
	}
}

func TestAnInstallationFromTheMarketplaceConnectsThePortalAndGoesBack(t *testing.T) {
	for name, signIn := range map[string]bool{"without sign-in": false, "with sign-in": true} {
		for hubID, behaviour := range map[string]hubspottest.TokenBehaviour{"by hub_id": {}, "by introspection": {OmitHubID: true}} {
			t.Run(name+" "+hubID, func(t *testing.T) {
				r := newInstallRig(t)
				r.hub.SetToken(behaviour)
				address := ""
				if signIn {
					address = r.signIn(portal)
				} else {
					address = r.install(portal, false)
				}
				a := r.get(address)
				if a.StatusCode != http.StatusFound || a.Header.Get("Location") != parameter(address, "returnUrl") ||
					a.Header.Get("Referrer-Policy") != "no-referrer" || a.Header.Get("Cache-Control") != "no-store" {
					t.Errorf("status %d, header %v", a.StatusCode, a.Header)
				}
				token := r.portals.all()[portal]
				if !slices.Equal(r.portals.actors, []string{"marketplace"}) || r.state(portal) != tokens.Active {
					t.Fatalf("stored %v by %v, state %q", r.portals.all(), r.portals.actors, r.state(portal))
				}
				if _, err := r.options.App.Refresh(t.Context(), token.Refresh); err != nil {
					t.Errorf("the stored grant does not renew: %v", err)
				}
				if v := r.hub.Violations(); len(v) != 0 {
					t.Errorf("violations %v", v)
				}
			})
		}
	}
}

func TestTheStateOfAnInstallationGoesToHubSpotWithACookie(t *testing.T) {
	for _, tt := range []struct {
		redirect string
		sameSite http.SameSite
	}{{"http", http.SameSiteLaxMode}, {"https", http.SameSiteNoneMode}} {
		r := newRig(t, func(r *rig) {
			r.options.MarketplaceInstall = true
			r.options.RedirectURL = tt.redirect + strings.TrimPrefix(r.options.RedirectURL, "http")
		})
		back := "https://app-eu1.hubspot.com/a%2Fb?x=1&state=old"
		a := r.get("/callback?step=authorize&returnUrl=" + url.QueryEscape(back))
		location, _ := url.Parse(a.Header.Get("Location"))
		if a.StatusCode != http.StatusFound || location.Host != "app-eu1.hubspot.com" || location.EscapedPath() != "/a%2Fb" ||
			location.Query().Get("x") != "1" || len(location.Query()["state"]) != 1 || location.Query().Get("state") == "old" {
			t.Errorf("status %d, Location %s", a.StatusCode, location)
		}
		if _, err := r.states.Open(location.Query().Get("state")); err != admin.ErrStatePurpose {
			t.Errorf("an ordinary callback would take the state: %v", err)
		}
		cookie := a.Cookies()[0]
		if cookie.Name != "hubspot_install" || !cookie.HttpOnly || cookie.SameSite != tt.sameSite || cookie.Secure != (tt.redirect == "https") ||
			cookie.Path != "/callback" || cookie.MaxAge != 600 || strings.Contains(location.String(), cookie.Value) {
			t.Errorf("cookie %v", cookie)
		}
		if n := r.hub.TokenCallsTotal(); n != 0 || len(r.portals.all()) != 0 {
			t.Errorf("%d token calls, stored %v", n, r.portals.all())
		}
	}
}

func TestAnInstallationsStateIsCheckedBeforeItsCodeIsUsed(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(r *rig, address string) string
		reason string
		words  string
	}{
		{"none", func(_ *rig, c string) string { return with(c, "state", "") }, "state_forged", "not made by this proxy"},
		{"forged", func(_ *rig, c string) string { return with(c, "state", parameter(c, "state")+"A") }, "state_forged", "not made by this proxy"},
		{"another secret", func(r *rig, c string) string {
			return with(c, "state", r.statesOf(hubspottest.ClientID, "x", r.options.RedirectURL).Sign(admin.State{Purpose: admin.PurposeInstall}))
		}, "state_forged", "not made by this proxy"},
		{"another app", func(r *rig, c string) string {
			return with(c, "state", r.statesOf("staging", hubspottest.ClientSecret, r.options.RedirectURL).Sign(admin.State{Purpose: admin.PurposeInstall}))
		}, "state_app", "another HUBSPOT_CLIENT_ID"},
		{"of /connect", func(r *rig, c string) string { return with(c, "state", parameter(r.begin(""), "state")) }, "state_purpose", "not made for"},
		{"of a link", func(r *rig, c string) string {
			return with(c, "state", r.states.Sign(admin.State{Purpose: admin.PurposeLink}))
		}, "state_purpose", "not made for"},
		{"expired", func(r *rig, c string) string { r.later.Store(int64(10 * time.Minute)); return c }, "state_expired", "has expired"},
		{"another browser", func(r *rig, c string) string { r.browser = r.newBrowser(); return c }, "foreign_browser", "another browser"},
		{"without its browser", func(r *rig, c string) string {
			return with(c, "state", r.states.Sign(admin.State{Purpose: admin.PurposeInstall}))
		}, "foreign_browser", "another browser"},
		{"no code", func(_ *rig, c string) string { return with(c, "code", "") }, "code_missing", "no code"},
		{"a foreign returnUrl", func(_ *rig, c string) string { return with(c, "returnUrl", "https://evil.example/") }, "return_url_invalid", "not an address of"},
		{"no returnUrl", func(_ *rig, c string) string { return with(c, "returnUrl", "") }, "return_url_invalid", "returnUrl is missing"},
		{"two returnUrls", func(_ *rig, c string) string { return c + "&returnUrl=https://evil.example/" }, "return_url_invalid", "not an address of"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newInstallRig(t)
			r.refuses(r.get(tt.change(r, r.signIn(portal))), http.StatusBadRequest, tt.reason, tt.words, "HubSpot&#39;s marketplace")
			if r.hub.TokenCallsTotal() != 0 {
				t.Error("the code was used")
			}
		})
	}
}

func TestAnOrdinaryCallbackDoesNotTakeTheStateOfAnInstallation(t *testing.T) {
	r := newInstallRig(t)
	finalize := r.signIn(portal)
	for name, address := range map[string]string{
		"without its step": with(finalize, "step", ""), "without returnUrl": with(with(finalize, "step", ""), "returnUrl", ""), "another step": with(finalize, "step", "x"),
	} {
		if a := r.get(address); a.StatusCode != http.StatusBadRequest || !strings.Contains(a.body, "not made for connecting a portal in this way") {
			t.Errorf("%s: status %d: %s", name, a.StatusCode, a.body)
		}
	}
	if r.hub.TokenCallsTotal() != 0 || len(r.portals.all()) != 0 {
		t.Errorf("%d token calls, stored %v", r.hub.TokenCallsTotal(), r.portals.all())
	}
	if a := r.get(finalize); a.StatusCode != http.StatusFound {
		t.Errorf("with it: status %d: %s", a.StatusCode, a.body)
	}
}

func TestAnInstallationsCodeIsUsedOnce(t *testing.T) {
	r := newInstallRig(t)
	plain, finalize := r.install("7", false), r.signIn(portal)
	origin, _ := url.Parse(finalize)
	cookies := r.browser.Jar.Cookies(origin)
	withCookies := func(request *http.Request) {
		for _, c := range cookies {
			request.AddCookie(c)
		}
	}
	for _, address := range []string{plain, finalize} {
		if a := r.get(address); a.StatusCode != http.StatusFound {
			t.Fatalf("status %d: %s", a.StatusCode, a.body)
		}
	}
	calls := r.hub.TokenCallsTotal()
	for _, address := range []string{plain, finalize} {
		r.refusesInstall("again", r.get(address, withCookies), http.StatusBadRequest, "used before")
	}
	if r.hub.TokenCallsTotal() != calls {
		t.Errorf("a code was sent %d times more", r.hub.TokenCallsTotal()-calls)
	}
}

func TestAnInstallationWithoutAStateReplacesOnlyWhatItMay(t *testing.T) {
	for _, tt := range []struct {
		name   string
		record []any // fields of the portal's record
		status int
		words  string
	}{
		{"a grant that has ended", []any{"state", "ended", "ended_code", "BAD_REFRESH_TOKEN"}, http.StatusFound, ""},
		{"a grant that lives", []any{"refresh_token", "na1-other"}, http.StatusConflict, "is connected already"},
		{"a tombstone", []any{"state", "removed", "access_token", "", "refresh_token", ""}, http.StatusConflict, "was removed"},
		{"an access token", []any{"kind", "access_token", "refresh_token", "", "renewed_at", "", "expires_at", ""}, http.StatusConflict, "has a token already"},
		{"an API key", []any{"kind", "api_key", "access_token", "", "refresh_token", "", "api_key", "key", "renewed_at", "", "expires_at", ""}, http.StatusConflict, "has a token already"},
		{"a damaged record", []any{"generation", "x"}, http.StatusConflict, "is connected already"},
		{"a record of a newer version", []any{"schema", "2"}, http.StatusConflict, "is connected already"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newInstallRig(t)
			r.portals.record(t, portal, tt.record...)
			before := r.portals.redis.HGetAll(t.Context(), "hubspot:portal:{"+portal+"}").Val()
			a := r.get(r.install(portal, false))
			after := r.portals.redis.HGetAll(t.Context(), "hubspot:portal:{"+portal+"}").Val()
			if tt.status == http.StatusFound {
				if a.StatusCode != http.StatusFound || after["state"] != "active" || after["refresh_token"] == before["refresh_token"] {
					t.Errorf("status %d, state %s: %s", a.StatusCode, after["state"], a.body)
				}
				return
			}
			r.refusesInstall(tt.name, a, tt.status, tt.words, "Ask the proxy&#39;s operator")
			if after["refresh_token"] != before["refresh_token"] || after["generation"] != before["generation"] || after["state"] != before["state"] {
				t.Errorf("the record is changed to %s", after["state"])
			}
		})
	}
}

func TestTheStepFinalizeReplacesOnlyWhatACallbackWithoutAPortalMay(t *testing.T) {
	record := func(fields ...any) func(r *rig) {
		return func(r *rig) { r.portals.record(r.T, portal, fields...) }
	}
	for _, tt := range []struct {
		name   string
		change func(r *rig) // after the state was signed
		status int
		words  string
	}{
		{"a grant that lives", record("refresh_token", "na1-other"), http.StatusFound, ""},
		{"an access token", record("kind", "access_token", "refresh_token", "", "renewed_at", "", "expires_at", ""), http.StatusConflict, "has a token already"},
		{"removed since", func(r *rig) {
			if err := r.portals.Remove(r.Context(), portal, "test"); err != nil {
				r.Fatal(err)
			}
		}, http.StatusConflict, "was changed since"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newInstallRig(t)
			finalize := r.signIn(portal)
			tt.change(r)
			a := r.get(finalize)
			if tt.status == http.StatusFound {
				if a.StatusCode != http.StatusFound || len(r.portals.all()) != 1 {
					t.Errorf("status %d, stored %v: %s", a.StatusCode, r.portals.all(), a.body)
				}
				return
			}
			r.refusesInstall(tt.name, a, tt.status, tt.words)
		})
	}
}

func TestADeclinedInstallationIsShownAndItsCodeNotUsed(t *testing.T) {
	r := newInstallRig(t)
	for _, address := range []string{r.install("7", false), r.signIn(portal)} {
		r.refusesInstall("declined", r.get(address+"&error=access_denied"), http.StatusBadRequest, "access_denied")
	}
	if n := r.hub.TokenCallsTotal(); n != 0 {
		t.Errorf("%d token calls", n)
	}
}

func TestARemovalThatRedisHasLostIsNotUndoneByAnInstallation(t *testing.T) {
	r := newInstallRig(t)
	if err := r.portals.Remove(t.Context(), portal, "test"); err != nil {
		t.Fatal(err)
	}
	if err := r.portals.redis.Del(t.Context(), "hubspot:portal:{"+portal+"}").Err(); err != nil {
		t.Fatal(err)
	}
	r.refusesInstall("a lost tombstone", r.get(r.install(portal, false)), http.StatusConflict, "was removed")
}

func TestNoInstallationsCodeIsUsedWithoutRedis(t *testing.T) {
	r := newInstallRig(t)
	plain, finalize := r.install("7", false), r.signIn(portal)
	r.redisEnd()
	for _, address := range []string{plain, finalize} {
		r.refusesInstall("without Redis", r.get(address), http.StatusServiceUnavailable, "Redis")
	}
	if n := r.hub.TokenCallsTotal(); n != 0 {
		t.Errorf("%d calls of the token endpoint", n)
	}
}

func TestInstallationsAreRefusedWithoutTheSettingAndThePageNamesIt(t *testing.T) {
	r := newRig(t, nil)
	const setting = "HUBSPOT_MARKETPLACE_INSTALL=true"
	back := url.QueryEscape("https://app.hubspot.com/")
	for _, address := range []string{
		r.install(portal, false), r.install(portal, true), "/callback?step=finalize&code=x&state=y&returnUrl=" + back, "/callback?step=finalize&returnUrl=" + back,
	} {
		r.refusesInstall(address, r.get(address), http.StatusBadRequest, setting)
	}
	if a := r.get("/callback?code=x"); strings.Contains(a.body, setting) {
		t.Errorf("a callback that is none: %s", a.body)
	}
	if n := r.hub.TokenCallsTotal(); n != 0 || len(r.portals.all()) != 0 {
		t.Errorf("%d token calls, stored %v", n, r.portals.all())
	}
}

// serveMarketplace serves the pages of HubSpot's marketplace on which a person installs the app.
func (r *rig) serveMarketplace(w http.ResponseWriter, request *http.Request) {
	page := "<p>The app is installed."
	switch {
	case request.URL.Path == "/install":
		page = `<form method=post><input name=portal><button name=flow value=plain>Install</button><button name=flow value=sign-in>Sign in</button></form>`
	case request.URL.Query().Has("state"):
		page = `<form method=post>The app is to be connected.<button>Connect app</button></form>`
	}
	if request.Method != http.MethodPost {
		_, _ = io.WriteString(w, `<!doctype html><link rel=icon href="data:,">`+page)
		return
	}
	address, err := r.hub.Finalize(hubspottest.MarketplaceOrigin + request.RequestURI)
	if request.URL.Path == "/install" {
		address, err = r.hub.Install(r.options.RedirectURL, request.PostFormValue("portal"), request.PostFormValue("flow") == "sign-in")
	}
	if err != nil {
		r.Error(err)
	}
	http.Redirect(w, request, address, http.StatusFound)
}

func TestInABrowserTheAppIsInstalledFromTheMarketplace(t *testing.T) {
	r := newInstallRig(t)
	marketplace := httptest.NewTLSServer(http.HandlerFunc(r.serveMarketplace))
	t.Cleanup(marketplace.Close)
	c := newChrome(t, "app.hubspot.com:443 "+strings.TrimPrefix(marketplace.URL, "https://"))

	c.open(hubspottest.MarketplaceOrigin + "/install")
	c.do(chromedp.SetValue(chromedp.CSS("input[name=portal]"), "62515"))
	c.click("button[value=plain]")
	c.says("The app is installed.")
	c.open(hubspottest.MarketplaceOrigin + "/install")
	c.do(chromedp.SetValue(chromedp.CSS("input[name=portal]"), "62516"))
	c.click("button[value=sign-in]")
	c.says("The app is to be connected.")
	if r.state("62516") != "" {
		t.Error("the portal is connected before it is allowed")
	}
	c.click("button")
	c.says("The app is installed.")
	for _, id := range []string{"62515", "62516"} {
		if r.state(id) != tokens.Active {
			t.Errorf("portal %s: state %q", id, r.state(id))
		}
	}
	c.silent()
}
