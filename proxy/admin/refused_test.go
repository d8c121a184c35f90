package admin_test

import (
	"html"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"hubspot-auth-proxy/proxy/admin"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/secret"
)

func TestACallbackIsRefusedBeforeItsCodeIsUsed(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(r *rig, callback string) string
		reason string
		words  string
	}{
		{"no state", func(_ *rig, c string) string { return with(c, "state", "") }, "state_missing", "has no state"},
		{"forged", func(_ *rig, c string) string { return with(c, "state", parameter(c, "state")+"A") }, "state_forged", "client secret"},
		{"another secret", func(r *rig, c string) string {
			return with(c, "state", r.statesOf(hubspottest.ClientID, "x", r.options.RedirectURL).Sign(admin.State{Purpose: admin.PurposeLink}))
		}, "state_forged", "not made by this proxy"},
		{"another app", func(r *rig, c string) string {
			return with(c, "state", r.statesOf("staging", hubspottest.ClientSecret, r.options.RedirectURL).Sign(admin.State{Purpose: admin.PurposeLink}))
		}, "state_app", "another HUBSPOT_CLIENT_ID"},
		{"another redirect URL", func(r *rig, c string) string {
			return with(c, "state", r.statesOf(hubspottest.ClientID, hubspottest.ClientSecret, "http://localhost/callback").Sign(admin.State{Purpose: admin.PurposeLink}))
		}, "state_app", "another HUBSPOT_CLIENT_ID or HUBSPOT_REDIRECT_URL"},
		{"expired", func(r *rig, c string) string { r.later.Store(int64(10 * time.Minute)); return c }, "state_expired", "has expired"},
		{"expired link", func(r *rig, c string) string {
			state := r.states.Sign(admin.State{Purpose: admin.PurposeLink})
			r.later.Store(int64(7 * 24 * time.Hour))
			return with(c, "state", state)
		}, "state_expired", "has expired"},
		{"foreign purpose", func(r *rig, c string) string {
			return with(c, "state", r.states.Sign(admin.State{Purpose: "x"}))
		}, "state_purpose", "not made for connecting"},
		{"another browser", func(r *rig, c string) string { r.browser = r.newBrowser(); return c }, "foreign_browser", "another browser"},
		{"begun again since", func(r *rig, c string) string { r.begin(""); return c }, "foreign_browser", "begun again"},
		{"a state without its browser", func(r *rig, c string) string {
			return with(c, "state", r.states.Sign(admin.State{Purpose: admin.PurposeConnect}))
		}, "foreign_browser", "another browser"},
		{"no code", func(_ *rig, c string) string { return with(c, "code", "") }, "code_missing", "no code"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, nil)
			callback := r.allow(r.begin(""), portal)
			r.refuses(r.get(tt.change(r, callback)), http.StatusBadRequest, tt.reason, tt.words, "/connect", "ask for a new one")
			if r.hub.TokenCallsTotal() != 0 {
				t.Error("the code was used")
			}
		})
	}
}

func TestACallbackIsUsedOnce(t *testing.T) {
	r := newRig(t, nil)
	callback := r.allow(r.begin(""), portal)
	origin, _ := url.Parse(callback)
	cookies := r.browser.Jar.Cookies(origin)
	if a := r.get(callback); a.StatusCode != http.StatusOK {
		t.Fatalf("status %d", a.StatusCode)
	}
	clear(r.portals.all())
	r.refuses(r.get(callback), http.StatusBadRequest, "foreign_browser") // the cookie is gone
	r.refuses(r.get(callback, func(request *http.Request) { request.AddCookie(cookies[0]) }),
		http.StatusBadRequest, "state_used", "used before")
	if calls := r.hub.TokenCallsTotal(); calls != 1 {
		t.Errorf("%d calls of the token endpoint", calls)
	}
}

func TestAnotherPortalThanTheExpectedOneIsNotStored(t *testing.T) {
	for name, behaviour := range map[string]hubspottest.TokenBehaviour{"by hub_id": {}, "by introspection": {OmitHubID: true}} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			r.hub.SetToken(behaviour)
			callback := r.allow(r.begin("?portal="+portal), "62516")
			// A portal that the browser names does not count.
			r.refuses(r.get(callback+"&portal=62515&hub_id=62515"), http.StatusForbidden, "other_portal",
				"You chose portal 62516", "this is for portal 62515", "Nothing was stored")
		})
	}
}

func TestHubSpotsRefusalIsShown(t *testing.T) {
	for _, tt := range []struct {
		name   string
		app    func(*rig)
		change func(r *rig, authorizeURL string) (callback string)
		status int
		reason string
		words  []string
	}{
		{"code was used", nil, func(r *rig, u string) string {
			callback := r.allow(u, portal)
			if _, err := r.options.App.Exchange(r.Context(), parameter(callback, "code"), r.options.RedirectURL); err != nil {
				r.Fatal(err)
			}
			return callback
		}, 400, "exchange_refused", []string{"missing or unknown auth code"}},
		{"code has expired", nil, func(r *rig, u string) string {
			defer r.hub.ExpireCodes()
			return r.allow(u, portal)
		}, 400, "exchange_refused", []string{"auth code is expired"}},
		{"another redirect URL", nil, func(r *rig, u string) string {
			foreign := r.allow(with(u, "redirect_uri", "http://localhost/else"), portal)
			return with(r.allow(u, portal), "code", parameter(foreign, "code"))
		}, 400, "exchange_refused", []string{"missing or invalid redirect uri"}},
		{"wrong secret", func(r *rig) { r.options.App.ClientSecret = secret.New("wrong") }, func(r *rig, u string) string {
			return r.allow(u, portal)
		}, 502, "exchange_app_refused", []string{"missing or invalid client secret", "HUBSPOT_CLIENT_SECRET"}},
		{"HubSpot is away", nil, func(r *rig, u string) string {
			defer r.hub.SetToken(hubspottest.TokenBehaviour{Status: 502})
			return r.allow(u, portal)
		}, 503, "exchange_failed", []string{"did not answer properly"}},
		{"rate limit", nil, func(r *rig, u string) string {
			defer r.hub.SetToken(hubspottest.TokenBehaviour{Status: 429})
			return r.allow(u, portal)
		}, 503, "exchange_failed", []string{"reached your rate limit"}},
		{"no refresh token", nil, func(r *rig, u string) string {
			defer r.hub.SetToken(hubspottest.TokenBehaviour{OmitRefreshToken: true})
			return r.allow(u, portal)
		}, 503, "exchange_failed", []string{"did not answer properly"}},
		{"nobody's token", nil, func(r *rig, u string) string { return r.allow(u, "none") }, 503, "introspection_failed",
			[]string{"did not answer properly"}},
		{"no portal has that number", nil, func(r *rig, u string) string { return r.allow(u, "-5") }, 503, "introspection_failed", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, tt.app)
			a := r.get(tt.change(r, r.begin("")))
			r.refuses(a, tt.status, tt.reason, append(tt.words, "Nothing was stored")...)
		})
	}
}

func TestNothingIsUsedUpWhileRedisIsUnreachable(t *testing.T) {
	r := newRig(t, nil)
	callback := r.allow(r.begin(""), portal)
	r.redisEnd()
	a := r.get(callback)
	r.refuses(a, http.StatusServiceUnavailable, "store_away", "Redis", "Try again")
	if a.Header.Get("Retry-After") == "" || len(a.Cookies()) != 0 || r.hub.TokenCallsTotal() != 0 {
		t.Errorf("header %v, %d token calls", a.Header, r.hub.TokenCallsTotal())
	}
}

func TestAPortalWhoseTokenCannotBeStoredIsNotReportedAsConnected(t *testing.T) {
	for name, tt := range map[string]struct {
		before       func(*rig)
		says, logged string
	}{
		"Redis ends":     {func(r *rig) { r.redisEnd() }, "Redis) does not answer", "Redis"},
		"a newer record": {func(r *rig) { r.portals.record(t, portal, "schema", "2") }, "log has the reason", "of a newer version of this program"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			r.portals.before = func() { tt.before(r) }
			a := r.get(r.allow(r.begin(""), portal))
			if !strings.Contains(r.logged.String(), tt.logged) {
				t.Errorf("the log does not say %q: %s", tt.logged, r.logged)
			}
			r.refuses(a, http.StatusServiceUnavailable, "store_failed", "could not be stored", tt.says)
		})
	}
}

func TestADeclinedConnectionIsShownWithHubSpotsMessage(t *testing.T) {
	r := newRig(t, nil)
	redirect, err := r.hub.Decline(r.begin(""))
	if err != nil {
		t.Fatal(err)
	}
	r.refuses(r.get(redirect), http.StatusBadRequest, "declined", "access_denied", "The user declined to connect the app.")
}

// attacks are texts that a page must show as text only.
var attacks = []string{
	`<script>alert(1)</script>`,
	`"><img src=x onerror=alert(1)>`,
	`'</title></style><script>x</script>`,
	`{{.Title}}<svg/onload=alert(1)>`,
	"\u202e\x00\x1b[31m\r\nSet-Cookie: a=b",
	strings.Repeat("<b>é", 1000),
	"\xff\xfe<script>",
}

func TestNoParameterGetsMarkupOntoAPage(t *testing.T) {
	r := newRig(t, nil)
	valid := r.allow(r.begin(""), portal)
	for _, attack := range attacks {
		for _, name := range []string{"error", "error_description", "state", "code", "portal", "x", "q", "page"} {
			for _, path := range []string{"/connect?", "/callback?", "/callback?error=a&", "/?", "/<b>" + "?"} {
				a := r.get(path + url.Values{name: {attack}}.Encode())
				a.body = bare(a.body)
				if strings.Contains(a.body, "<script") || strings.Contains(a.body, "<img") || strings.Contains(a.body, "<svg") || strings.Contains(a.body, "<b>") ||
					len(a.body) > 10_000 || !utf8.ValidString(a.body) || strings.ContainsAny(a.body, "\u202e\x00\x1b") || a.Header.Get("Set-Cookie") == "a=b" {
					t.Errorf("%s %s=%q: %s", path, name, attack, a.body)
				}
			}
		}
		// The state is valid, so that the code is sent to HubSpot.
		if a := r.get(with(valid, "code", attack)); strings.Contains(a.body, "<b>") {
			t.Errorf("code %q: %s", attack, a.body)
		}
	}
	if len(r.portals.all()) != 0 {
		t.Errorf("stored %v", r.portals.all())
	}
}

func TestHubSpotsMessageIsEscapedAndClippedAndHasNoSecret(t *testing.T) {
	r := newRig(t, nil)
	callback := r.allow(r.begin(""), portal)
	message := "<b>no</b> " + parameter(callback, "code") + " " + parameter(callback, "state") + " " + hubspottest.ClientSecret + strings.Repeat("é", 500)
	r.hub.SetToken(hubspottest.TokenBehaviour{Status: 400, Body: `{"status":"BAD_AUTH_CODE","message":"` + message + `"}`})
	a := r.get(callback)
	r.refuses(a, http.StatusBadRequest, "exchange_refused", "&lt;b&gt;no&lt;/b&gt; … … …é")
	_, quoted, _ := strings.Cut(a.body, "<blockquote>")
	quoted, _, _ = strings.Cut(quoted, "</blockquote>")
	if n := utf8.RuneCountInString(html.UnescapeString(quoted)); n != 300 {
		t.Errorf("%d characters: %s", n, quoted)
	}
}

func TestAnInvalidPortalIsRefused(t *testing.T) {
	for _, id := range []string{"0", "007", "-1", "+1", "1e3", "x", "99999999999999999999", "1 ", "default"} {
		r := newRig(t, nil)
		r.refuses(r.get("/connect?portal="+url.QueryEscape(id)), http.StatusBadRequest, "portal_invalid", "62515")
	}
}
