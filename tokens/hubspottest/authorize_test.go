package hubspottest_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hubspot-auth-proxy/tokens/hubspottest"
)

const redirectURI = "http://localhost:8081/callback?kept=1"

func authorizeURL(hub *hubspottest.Server, change func(url.Values)) string {
	query := url.Values{
		"client_id":      {hubspottest.ClientID},
		"redirect_uri":   {redirectURI},
		"scope":          {"oauth crm.objects.contacts.read"},
		"optional_scope": {"tickets"},
		"state":          {"the state"},
	}
	if change != nil {
		change(query)
	}
	return hub.AuthorizeURL() + "?" + query.Encode()
}

// authorize connects the portal and returns the code with which HubSpot would redirect the
// browser.
func authorize(t *testing.T, hub *hubspottest.Server) string {
	t.Helper()
	redirect, err := hub.Authorize(authorizeURL(hub, nil), portal)
	if err != nil {
		t.Fatal(err)
	}
	return parameters(t, redirect).Get("code")
}

func parameters(t *testing.T, address string) url.Values {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return u.Query()
}

func exchangeForm(code string) url.Values {
	return url.Values{
		"grant_type":    {"authorization_code"},
		"client_id":     {hubspottest.ClientID},
		"client_secret": {hubspottest.ClientSecret},
		"redirect_uri":  {redirectURI},
		"code":          {code},
	}
}

func TestACodeGivesAGrantOnce(t *testing.T) {
	hub := newHub(t)
	former := hub.Connect(portal)
	redirect, err := hub.Authorize(authorizeURL(hub, nil), portal)
	if err != nil {
		t.Fatal(err)
	}
	got := parameters(t, redirect)
	code := got.Get("code")
	if !strings.HasPrefix(redirect, "http://localhost:8081/callback?") || !strings.Contains(code, hubspottest.Canary) ||
		got.Get("state") != "the state" || got.Get("kept") != "1" {
		t.Fatalf("redirect %s", redirect)
	}
	if a := refresh(t, hub, former); a.StatusCode != http.StatusOK {
		t.Errorf("the former grant ended before the code was used: %d", a.StatusCode)
	}
	body := fields(t, post(t, hub, hub.TokenURL(), exchangeForm(code).Encode(), nil).body)
	scopes := []any{"oauth", "crm.objects.contacts.read", "tickets"}
	if diff := cmp.Diff([]any{62515.0, 1800.0, scopes}, []any{body["hub_id"], body["expires_in"], body["scopes"]}); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	renewed := fields(t, refresh(t, hub, body["refresh_token"].(string)).body)
	if e := echoOf(t, do(t, newClient(t, hub), "GET", hub.URL+"/crm", renewed["access_token"].(string), nil)); e.Portal != portal {
		t.Errorf("the token is of portal %s", e.Portal)
	}
	if a := post(t, hub, hub.TokenURL(), exchangeForm(code).Encode(), nil); fields(t, a.body)["status"] != "BAD_AUTH_CODE" {
		t.Errorf("second use: %s", a.body)
	}
}

func TestAnInvalidExchangeGetsHubSpots400(t *testing.T) {
	for _, tt := range []struct{ name, field, value, code, oauth string }{
		{"unknown code", "code", "x", "BAD_AUTH_CODE", "invalid_grant"},
		{"another redirect URI", "redirect_uri", redirectURI + "/", "BAD_REDIRECT_URI", "invalid_grant"},
		{"wrong secret", "client_secret", "x", "BAD_CLIENT_SECRET", "invalid_client"},
		{"wrong client", "client_id", "x", "BAD_CLIENT_ID", "invalid_client"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			hub := newHub(t)
			code := authorize(t, hub)
			form := exchangeForm(code)
			form.Set(tt.field, tt.value)
			a := post(t, hub, hub.TokenURL(), form.Encode(), nil)
			body := fields(t, a.body)
			if diff := cmp.Diff([]any{400, tt.code, tt.oauth}, []any{a.StatusCode, body["status"], body["error"]}); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			if a := post(t, hub, hub.TokenURL(), exchangeForm(code).Encode(), nil); a.StatusCode != http.StatusOK {
				t.Errorf("the code is gone: %s", a.body)
			}
		})
	}
	hub := newHub(t)
	code := authorize(t, hub)
	hub.ExpireCodes()
	if a := post(t, hub, hub.TokenURL(), exchangeForm(code).Encode(), nil); fields(t, a.body)["status"] != "EXPIRED_AUTH_CODE" {
		t.Errorf("expired: %s", a.body)
	}
}

func TestAnExchangeLeavesOutTheConfiguredFields(t *testing.T) {
	hub := newHub(t)
	hub.SetToken(hubspottest.TokenBehaviour{OmitHubID: true, OmitRefreshToken: true})
	body := fields(t, post(t, hub, hub.TokenURL(), exchangeForm(authorize(t, hub)).Encode(), nil).body)
	if body["hub_id"] != nil || body["refresh_token"] != nil || body["access_token"] == nil {
		t.Errorf("body %v", body)
	}
}

func TestDecliningGivesNoCode(t *testing.T) {
	hub := newHub(t)
	redirect, err := hub.Decline(authorizeURL(hub, nil))
	if err != nil {
		t.Fatal(err)
	}
	want := url.Values{"kept": {"1"}, "error": {"access_denied"}, "error_description": {"The user declined to connect the app."}}
	if diff := cmp.Diff(want, parameters(t, redirect)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestTheAuthorizePageAcceptsItsForm(t *testing.T) {
	hub := newHub(t)
	client := newClient(t, hub)
	address := authorizeURL(hub, func(v url.Values) { v.Set("scope", "oauth <b>") })
	page := do(t, client, "GET", address, "", nil)
	if page.StatusCode != http.StatusOK || !strings.Contains(page.body, "Connect</button>") || !strings.Contains(page.body, "Cancel</button>") ||
		!strings.Contains(page.body, "oauth, &lt;b&gt;, tickets") {
		t.Errorf("page %d %s", page.StatusCode, page.body)
	}
	connected := post(t, hub, address, "answer=connect&portal=62516", nil)
	code := parameters(t, connected.Header.Get("Location")).Get("code")
	body := fields(t, post(t, hub, hub.TokenURL(), exchangeForm(code).Encode(), nil).body)
	if connected.StatusCode != http.StatusFound || body["hub_id"] != 62516.0 {
		t.Errorf("status %d, token %v", connected.StatusCode, body)
	}
	if cancelled := post(t, hub, address, "answer=cancel", nil); parameters(t, cancelled.Header.Get("Location")).Get("error") != "access_denied" {
		t.Errorf("cancelled: %d %v", cancelled.StatusCode, cancelled.Header)
	}
	if a := post(t, hub, address, "answer=connect", nil); a.StatusCode != http.StatusBadRequest {
		t.Errorf("without a portal: %d", a.StatusCode)
	}
}

func TestAnInvalidAuthorizeURLGetsAnErrorPage(t *testing.T) {
	for name, change := range map[string]func(url.Values){
		"no client":           func(v url.Values) { v.Del("client_id") },
		"unknown client":      func(v url.Values) { v.Set("client_id", "x") },
		"no redirect URI":     func(v url.Values) { v.Del("redirect_uri") },
		"http to elsewhere":   func(v url.Values) { v.Set("redirect_uri", "http://example.com/callback") },
		"no scope":            func(v url.Values) { v.Del("scope") },
		"required scope gone": func(v url.Values) { v.Set("scope", "crm.objects.contacts.read") },
	} {
		t.Run(name, func(t *testing.T) {
			hub := newHub(t)
			address := authorizeURL(hub, change)
			if a := do(t, newClient(t, hub), "GET", address, "", nil); a.StatusCode != http.StatusBadRequest || strings.Contains(a.body, "<button") {
				t.Errorf("page %d %s", a.StatusCode, a.body)
			}
			if redirect, err := hub.Authorize(address, portal); err == nil {
				t.Errorf("Authorize: %s", redirect)
			}
			if redirect, err := hub.Decline(address); err == nil {
				t.Errorf("Decline: %s", redirect)
			}
		})
	}
	hub := newHub(t)
	if _, err := hub.Authorize("https://app.hubspot.com/oauth/authorize", portal); err == nil {
		t.Error("the page of another server is accepted")
	}
}

func TestIntrospectionReturnsThePortalOfAToken(t *testing.T) {
	hub := newHub(t)
	refreshToken := hub.Connect(portal)
	hub.SetAccessToken(portal, "pat-"+hubspottest.Canary)
	access := hub.Issue(portal, time.Hour)
	ask := func(version, token string, change func(url.Values)) map[string]any {
		form := url.Values{"client_id": {hubspottest.ClientID}, "client_secret": {hubspottest.ClientSecret}, "token": {token}}
		if change != nil {
			change(form)
		}
		return fields(t, post(t, hub, hub.URL+"/oauth/"+version+"/token/introspect", form.Encode(), nil).body)
	}
	for _, version := range []string{"v3", "2026-03", "2026-09"} {
		for token, use := range map[string]string{access: "access_token", refreshToken: "refresh_token"} {
			got := ask(version, token, nil)
			want := []any{true, 62515.0, token, use, use == "access_token"}
			if diff := cmp.Diff(want, []any{got["active"], got["hub_id"], got["token"], got["token_use"], got["signed_access_token"] != nil}); diff != "" {
				t.Errorf("%s: -want +got\n%s", version, diff)
			}
		}
	}
	inactive := map[string]any{"active": false}
	for name, token := range map[string]string{"unknown": "x", "expired": hub.Issue(portal, 0), "static": "pat-" + hubspottest.Canary, "none": ""} {
		if diff := cmp.Diff(inactive, ask("v3", token, nil)); diff != "" {
			t.Errorf("%s: -want +got\n%s", name, diff)
		}
	}
	hub.Disconnect(portal)
	if diff := cmp.Diff(inactive, ask("v3", refreshToken, nil)); diff != "" {
		t.Errorf("ended grant: -want +got\n%s", diff)
	}
	if got := ask("v3", access, func(v url.Values) { v.Set("client_secret", "x") }); got["status"] != "BAD_CLIENT_SECRET" {
		t.Errorf("wrong secret: %v", got)
	}
}

func TestAccountInfoReturnsThePortalOfACredential(t *testing.T) {
	hub := newHub(t)
	client := newClient(t, hub)
	hub.SetAccessToken("62516", "pat-"+hubspottest.Canary)
	hub.SetAPIKey("62517", "key-"+hubspottest.Canary)
	for want, a := range map[float64]answer{
		62515: do(t, client, "GET", hub.URL+"/account-info/v3/details", hub.Issue(portal, time.Hour), nil),
		62516: do(t, client, "GET", hub.URL+"/account-info/2026-03/details", "pat-"+hubspottest.Canary, nil),
		62517: do(t, client, "GET", hub.URL+"/account-info/v3/details?hapikey=key-"+hubspottest.Canary, "", nil),
	} {
		got := fields(t, a.body)
		if diff := cmp.Diff([]any{want, "app.hubspot.com", "na1"}, []any{got["portalId"], got["uiDomain"], got["dataHostingLocation"]}); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
		for _, name := range []string{"accountType", "timeZone"} {
			if got[name] == nil {
				t.Errorf("%s is missing", name)
			}
		}
	}
	check401(t, do(t, client, "GET", hub.URL+"/account-info/v3/details", "", nil), "INVALID_AUTHENTICATION")
}

func TestAnInstallationBeginsInTheMarketplace(t *testing.T) {
	hub := newHub(t)
	const redirect = "http://localhost:1/callback"
	query := func(address string) url.Values {
		u, err := url.Parse(address)
		if err != nil || !strings.HasPrefix(address, redirect+"?") {
			t.Fatalf("the browser is sent to %s", address)
		}
		return u.Query()
	}
	exchange := func(code string) string {
		form := url.Values{"grant_type": {"authorization_code"}, "client_id": {hubspottest.ClientID}, "client_secret": {hubspottest.ClientSecret},
			"redirect_uri": {redirect}, "code": {code}}
		body := fields(t, post(t, hub, hub.TokenURL(), form.Encode(), nil).body)
		return fmt.Sprint(body["hub_id"], body["status"])
	}
	address, err := hub.Install(redirect, portal, false)
	if err != nil {
		t.Fatal(err)
	}
	plain := query(address)
	if plain.Has("state") || plain.Has("step") || !strings.HasPrefix(plain.Get("returnUrl"), hubspottest.MarketplaceOrigin+"/") {
		t.Errorf("without sign-in: %v", plain)
	}
	if got := exchange(plain.Get("code")); got != "62515 <nil>" {
		t.Errorf("its code gives %s", got)
	}
	if address, err = hub.Install(redirect, "7", true); err != nil {
		t.Fatal(err)
	}
	begun := query(address)
	if begun.Get("step") != "authorize" || begun.Has("code") || begun.Has("state") {
		t.Errorf("with sign-in: %v", begun)
	}
	for _, returned := range []string{begun.Get("returnUrl"), hubspottest.MarketplaceOrigin + "/?state=x", plain.Get("returnUrl") + "&state=x"} {
		if address, err := hub.Finalize(returned); err == nil {
			t.Errorf("%s leads to %s", returned, address)
		}
	}
	if address, err = hub.Finalize(begun.Get("returnUrl") + "&state=x"); err != nil {
		t.Fatal(err)
	}
	final := query(address)
	if final.Get("step") != "finalize" || final.Get("state") != "x" || final.Get("returnUrl") != begun.Get("returnUrl") {
		t.Errorf("finally: %v", final)
	}
	if got := exchange(final.Get("code")); got != "7 <nil>" {
		t.Errorf("its code gives %s", got)
	}
}
