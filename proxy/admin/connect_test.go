package admin_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hubspot-auth-proxy/proxy/admin"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/secret"
)

func TestAPortalIsConnected(t *testing.T) {
	for name, behaviour := range map[string]hubspottest.TokenBehaviour{"by hub_id": {}, "by introspection": {OmitHubID: true}} {
		for _, query := range []string{"", "?portal=" + portal} {
			t.Run(name+query, func(t *testing.T) {
				r := newRig(t, nil)
				r.hub.SetToken(behaviour)
				a := r.get(r.allow(r.begin(query), portal))
				if a.StatusCode != http.StatusOK || !strings.Contains(a.body, "Portal 62515 is connected") {
					t.Errorf("status %d, page %s", a.StatusCode, a.body)
				}
				token, stored := r.portals.all()[portal]
				if !stored || len(r.portals.all()) != 1 || !cmp.Equal(r.portals.actors, []string{"callback"}) {
					t.Fatalf("stored %v by %v", r.portals.all(), r.portals.actors)
				}
				if _, err := r.options.App.Refresh(t.Context(), token.Refresh); err != nil {
					t.Errorf("the stored grant does not renew: %v", err)
				}
				if entries := r.logs.All(); len(entries) != 0 {
					t.Errorf("logged %v", entries)
				}
				if v := r.hub.Violations(); len(v) != 0 {
					t.Errorf("violations %v", v)
				}
			})
		}
	}
}

func TestTheBrowserIsSentToHubSpotWithACookie(t *testing.T) {
	r := newRig(t, nil)
	a := r.get("/connect")
	location, _ := url.Parse(a.Header.Get("Location"))
	query := location.Query()
	state, err := r.states.Open(query.Get("state"))
	if err != nil || state.Purpose != admin.PurposeConnect || state.Browser == "" {
		t.Errorf("state %v, error %v", state, err)
	}
	query.Del("state")
	want := url.Values{"client_id": {hubspottest.ClientID}, "redirect_uri": {r.options.RedirectURL},
		"scope": {"oauth crm.objects.contacts.read"}, "optional_scope": {"tickets"}}
	if diff := cmp.Diff(want, query); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	cookie := a.Cookies()[0]
	if !cookie.HttpOnly || cookie.SameSite != http.SameSiteLaxMode || cookie.Path != "/callback" || cookie.MaxAge != 600 || cookie.Secure ||
		len(cookie.Value) < 20 || strings.Contains(location.String(), cookie.Value) || state.Browser == cookie.Value {
		t.Errorf("cookie %v", cookie)
	}
	if a.Header.Get("Cache-Control") != "no-store" || a.Header.Get("Referrer-Policy") != "no-referrer" {
		t.Errorf("header %v", a.Header)
	}
}

func TestTheCookieIsSecureWhereTheRedirectURLIs(t *testing.T) {
	r := newRig(t, func(r *rig) { r.options.RedirectURL = "https" + strings.TrimPrefix(r.options.RedirectURL, "http") })
	if cookie := r.get("/connect").Cookies()[0]; !cookie.Secure {
		t.Errorf("cookie %v", cookie)
	}
}

func TestALinkWorksOnceInAnyBrowser(t *testing.T) {
	r := newRig(t, nil)
	link := func(portal string) string {
		state := r.states.Sign(admin.State{Purpose: admin.PurposeLink, Portal: portal})
		return r.options.App.AuthorizeURL(r.options.AuthorizeURL, r.options.RedirectURL, r.options.Scopes, "", state)
	}
	address := link(portal)
	r.later.Store(int64(7*24*time.Hour - time.Minute))
	if a := r.get(r.allow(address, portal)); a.StatusCode != http.StatusOK {
		t.Fatalf("status %d: %s", a.StatusCode, a.body)
	}
	clear(r.portals.all())
	r.refuses(r.get(r.allow(address, portal)), 400, "state_used", "used before", "ask for a new one")

	address = link("")
	if redirect, err := r.hub.Decline(address); err != nil {
		t.Error(err)
	} else {
		r.refuses(r.get(redirect), 400, "declined")
	}
	if a := r.get(r.allow(address, "7")); a.StatusCode != http.StatusOK {
		t.Errorf("after it was declined: status %d: %s", a.StatusCode, a.body)
	}
}

func TestOnlyOneOfManyCallbacksWithTheSameStateConnects(t *testing.T) {
	r := newRig(t, nil)
	callback := r.allow(r.begin(""), portal)
	const n = 8
	statuses := make(chan int, n)
	for range n {
		go func() {
			request, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, callback, nil)
			response, err := r.browser.Do(request)
			if err != nil {
				statuses <- 0
				return
			}
			_ = response.Body.Close()
			statuses <- response.StatusCode
		}()
	}
	got := map[int]int{}
	for range n {
		got[<-statuses]++
	}
	// A callback that begins after another one has ended has no cookie any more.
	if got[http.StatusOK] != 1 || got[http.StatusBadRequest] != n-1 || r.hub.TokenCallsTotal() != 1 {
		t.Errorf("statuses %v, %d token calls", got, r.hub.TokenCallsTotal())
	}
}

func TestAPortalIsConnectedEvenIfTheBrowserDisconnects(t *testing.T) {
	r := newRig(t, nil)
	listener, noticed := admin.New(r.options), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		context.AfterFunc(request.Context(), func() { close(noticed) })
		listener.ServeHTTP(w, request)
	}))
	t.Cleanup(server.Close)
	callback := strings.Replace(r.allow(r.begin(""), portal), r.server.URL, server.URL, 1)
	r.hub.SetToken(hubspottest.TokenBehaviour{Hang: true})
	ctx, cancel := context.WithCancel(t.Context())
	request, _ := http.NewRequestWithContext(ctx, http.MethodGet, callback, nil)
	go func() {
		_ = r.hub.Until(t.Context(), func() bool { return r.hub.TokenCallsTotal() == 1 })
		cancel()
	}()
	if _, err := r.browser.Do(request); err == nil {
		t.Fatal("the call was answered")
	}
	<-noticed
	r.hub.SetToken(hubspottest.TokenBehaviour{})
	<-r.portals.changed
	if _, stored := r.portals.all()[portal]; !stored {
		t.Error("not stored")
	}
}

func TestAHEADOfACallbackDoesNotUseItUp(t *testing.T) {
	r := newRig(t, nil)
	callback := r.allow(r.begin(""), portal)
	a := r.get(callback, func(request *http.Request) { request.Method = http.MethodHead })
	if a.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("HEAD: %d", a.StatusCode)
	}
	if a := r.get(callback); a.StatusCode != http.StatusOK {
		t.Errorf("status %d: %s", a.StatusCode, a.body)
	}
}

func TestOnlyCallbackIsServedForAnotherHostName(t *testing.T) {
	r := newRig(t, nil)
	public := func(request *http.Request) { request.Host = "proxy.example.com" }
	callback := r.allow(r.begin(""), portal)
	for _, path := range []string{"/connect", "/healthz", "/readyz", "/", "/callback/", "//callback"} {
		if a := r.get(path, public); a.StatusCode != http.StatusForbidden {
			t.Errorf("%s: %d", path, a.StatusCode)
		}
	}
	origin, _ := url.Parse(callback)
	cookies := r.browser.Jar.Cookies(origin) // the jar goes by the Host header otherwise
	withCookie := func(request *http.Request) { request.AddCookie(cookies[0]) }
	if a := r.get(callback, public, withCookie); a.StatusCode != http.StatusOK {
		t.Errorf("status %d: %s", a.StatusCode, a.body)
	}
}

func TestAnotherSiteDoesNotEndAConnectionThatIsUnderWay(t *testing.T) {
	r := newRig(t, nil)
	callback := r.allow(r.begin(""), portal)
	from := func(site string) func(*http.Request) {
		return func(request *http.Request) { request.Header.Set("Sec-Fetch-Site", site) }
	}
	for _, site := range []string{"cross-site", "same-site", "x"} {
		a := r.get("/connect?portal=7", from(site))
		r.refuses(a, http.StatusForbidden, "other_site", "Another site has sent you here", `href="/connect"`)
		if len(a.Cookies()) != 0 {
			t.Errorf("%s: cookies %v", site, a.Cookies())
		}
	}
	if a := r.get(callback); a.StatusCode != http.StatusOK {
		t.Errorf("status %d: %s", a.StatusCode, a.body)
	}
	for _, site := range []string{"none", "same-origin"} {
		if a := r.get("/connect", from(site)); a.StatusCode != http.StatusFound {
			t.Errorf("%s: %d", site, a.StatusCode)
		}
	}
}

func TestConnectingBeginsAtTheRedirectURLsHost(t *testing.T) {
	r := newRig(t, func(r *rig) { r.options.RedirectURL = "http://localhost:1/callback" })
	a := r.get("/connect?portal=7")
	_, port, _ := strings.Cut(strings.TrimPrefix(r.server.URL, "http://"), ":")
	if want := "http://localhost:" + port + "/connect?portal=7&sent="; a.StatusCode != http.StatusFound || !strings.HasPrefix(a.Header.Get("Location"), want) {
		t.Errorf("status %d, Location %s, want %s", a.StatusCode, a.Header.Get("Location"), want)
	}
	if len(a.Cookies()) != 0 {
		t.Errorf("cookies %v", a.Cookies())
	}
	// For the browser, this is another site.
	crossSite := func(request *http.Request) { request.Header.Set("Sec-Fetch-Site", "cross-site") }
	home := a.Header.Get("Location")
	if b := r.get(home, crossSite); b.StatusCode != http.StatusFound || !strings.HasPrefix(b.Header.Get("Location"), r.hub.AuthorizeURL()) {
		t.Errorf("sent there: %d %v", b.StatusCode, b.Header)
	}
	if b := r.get("/callback?code=x&state=" + parameter(home, "sent")); b.StatusCode != http.StatusBadRequest {
		t.Errorf("its proof is good for a callback: %d", b.StatusCode)
	}
	r.logs.TakeAll()
	for _, address := range []string{with(home, "sent", ""), with(home, "sent", "x"), with(home, "sent", r.states.Sign(admin.State{Purpose: admin.PurposeLink}))} {
		r.refuses(r.get(address, crossSite), http.StatusForbidden, "other_site")
	}
	r.later.Store(int64(time.Minute))
	r.refuses(r.get(home, crossSite), http.StatusForbidden, "other_site")

	r = newRig(t, func(r *rig) { r.options.RedirectURL = "https://proxy.example.com/callback" })
	r.refuses(r.get("/connect"), http.StatusMisdirectedRequest, "other_host", "proxy.example.com", "portal link")
}

func TestThePagesSayWhatToSetWithoutAnApp(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*rig)
		says   string
	}{
		"no app":          {func(r *rig) { r.options.App = nil }, "Set HUBSPOT_CLIENT_ID and HUBSPOT_CLIENT_SECRET, and restart"},
		"no secret":       {func(r *rig) { r.options.App.ClientSecret = secret.Text{} }, "Set HUBSPOT_CLIENT_ID and HUBSPOT_CLIENT_SECRET, and restart"},
		"no redirect URL": {func(r *rig) { r.options.RedirectURL = "" }, "Set HUBSPOT_REDIRECT_URL (the address of /callback"},
		"nothing":         {func(r *rig) { r.options.App, r.options.RedirectURL, r.options.Scopes = nil, "", "" }, "Set HUBSPOT_CLIENT_ID, HUBSPOT_CLIENT_SECRET, HUBSPOT_SCOPES and HUBSPOT_REDIRECT_URL"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, test.change)
			for _, path := range []string{"/connect", "/callback?code=x&state=y", "/callback?error=x"} {
				a := r.get(path)
				if a.StatusCode != http.StatusNotFound || !strings.Contains(a.body, test.says) {
					t.Errorf("%s: %d %s", path, a.StatusCode, a.body)
				}
			}
		})
	}
}

func TestConnectNeedsScopesAndTheCallbackDoesNot(t *testing.T) {
	r := newRig(t, func(r *rig) { r.options.Scopes = "" })
	if a := r.get("/connect"); a.StatusCode != http.StatusNotFound || !strings.Contains(a.body, "Set HUBSPOT_SCOPES, and restart the proxy.") {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	r.portals.record(t, "2", "state", "ended")
	if body := r.page("To connect portals by a click, set HUBSPOT_SCOPES."); strings.Contains(body, `href="/connect`) {
		t.Errorf("the page links to /connect: %s", body)
	}
	// The link is of a process with scopes.
	link := r.options.App.AuthorizeURL(r.options.AuthorizeURL, r.options.RedirectURL, "oauth", "", r.states.Sign(admin.State{Purpose: admin.PurposeLink, Portal: portal}))
	if a := r.get(r.allow(link, portal)); a.StatusCode != http.StatusOK {
		t.Errorf("a link: %d %s", a.StatusCode, a.body)
	}
}

func TestACallbackAtAnotherPathSaysWhatToSet(t *testing.T) {
	const code = "code-" + hubspottest.Canary
	for _, loopback := range []bool{true, false} {
		r := newRig(t, func(r *rig) { r.options.Loopback = loopback })
		for _, address := range []string{"/foo?code=" + code + "&state=x", "/callback/?code=" + code + "&state=x", "/foo?error=access_denied&state=x"} {
			a := r.get(address, func(request *http.Request) { request.Host = "proxy.example.com" })
			r.refuses(a, http.StatusNotFound, "callback_path", "HUBSPOT_REDIRECT_URL", "http://localhost:8081/callback", "the code was not used")
		}
		for _, address := range []string{"/foo", "/foo?code=x", "/foo?state=x"} {
			if a := r.get(address); a.StatusCode != http.StatusNotFound || strings.Contains(a.body, "HUBSPOT_REDIRECT_URL") {
				t.Errorf("%s: %d %s", address, a.StatusCode, a.body)
			}
		}
	}
}

func TestATokenIsReplacedFromThePageThatKeepsIt(t *testing.T) {
	r := newRig(t, nil)
	r.portals.record(t, portal, "kind", "access_token", "refresh_token", "", "renewed_at", "", "expires_at", "")
	a := r.get(r.allow(r.begin(""), portal))
	r.refusesInstall("a static token", a, http.StatusConflict, "connect portal "+portal+" below")
	link := `href="/connect?portal=` + portal + `"`
	if !strings.Contains(a.body, link) {
		t.Fatalf("no %s: %s", link, a.body)
	}
	if a := r.get(r.allow(r.begin("?portal="+portal), portal)); a.StatusCode != http.StatusOK {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
}
