package hubspot_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hubspot-auth-proxy/tokens/hubspot"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/secret"
)

const (
	redirectURL = "http://localhost:8081/callback"
	scopes      = "oauth crm.objects.contacts.read"
)

// newApp returns a fake HubSpot and its app. Both are closed when the test ends.
func newApp(t *testing.T) (*hubspottest.Server, *hubspot.App) {
	t.Helper()
	hub := hubspottest.NewServer()
	t.Cleanup(hub.Close)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return hub, &hubspot.App{
		ClientID:     hubspottest.ClientID,
		ClientSecret: secret.New(hubspottest.ClientSecret),
		TokenURL:     hub.TokenURL(),
		Client:       hubspot.NewClient(transport, 10*time.Second),
	}
}

// code returns the code with which HubSpot redirects the browser after portal 62515 has
// given the app access.
func code(t *testing.T, hub *hubspottest.Server, app *hubspot.App) string {
	t.Helper()
	redirect, err := hub.Authorize(app.AuthorizeURL(hub.AuthorizeURL(), redirectURL, scopes, "", "s"), "62515")
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(redirect)
	if err != nil {
		t.Fatal(err)
	}
	return u.Query().Get("code")
}

func TestTheAuthorizeURLEncodesSpacesAsHubSpotExpects(t *testing.T) {
	app := &hubspot.App{ClientID: "id"}
	got := app.AuthorizeURL("https://app.hubspot.com/oauth/authorize", redirectURL, "a b", "c+d e", "x&y=z")
	want := "https://app.hubspot.com/oauth/authorize?client_id=id&optional_scope=c%2Bd%20e" +
		"&redirect_uri=http%3A%2F%2Flocalhost%3A8081%2Fcallback&scope=a%20b&state=x%26y%3Dz"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := app.AuthorizeURL("p", "r", "s", "", "t"); strings.Contains(got, "optional_scope") {
		t.Errorf("no optional scopes: %s", got)
	}
}

func TestACodeIsExchangedForAGrant(t *testing.T) {
	hub, app := newApp(t)
	token, err := app.Exchange(t.Context(), code(t, hub, app), redirectURL)
	if err != nil || token.Portal != "62515" || token.ExpiresIn != 30*time.Minute {
		t.Fatalf("token %v, error %v", token, err)
	}
	if renewed, err := app.Refresh(t.Context(), token.Refresh); err != nil || renewed.Access.Equal(token.Access) {
		t.Errorf("renewed %v, error %v", renewed, err)
	}
}

func TestTheErrorOfARefusedCodeHasHubSpotsMessageButNotInItsText(t *testing.T) {
	hub, app := newApp(t)
	used := code(t, hub, app)
	if _, err := app.Exchange(t.Context(), used, redirectURL); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, code, redirectURL, want string }{
		{"used", used, redirectURL, "missing or unknown auth code"},
		{"another redirect URL", code(t, hub, app), redirectURL + "/", "missing or invalid redirect uri"},
	} {
		_, err := app.Exchange(t.Context(), tt.code, tt.redirectURL)
		e, is := errors.AsType[*hubspot.Error](err)
		if !is || e.Status != 400 || e.Code == "" || e.Message != tt.want {
			t.Errorf("%s: error %v", tt.name, err)
			continue
		}
		if text := err.Error(); strings.Contains(text, e.Message) || strings.Contains(text, hubspottest.Canary) {
			t.Errorf("%s: error text %s", tt.name, text)
		}
	}
}

func TestExchangeFailsIfTheAnswerHasNoRefreshToken(t *testing.T) {
	hub, app := newApp(t)
	hub.SetToken(hubspottest.TokenBehaviour{OmitRefreshToken: true})
	token, err := app.Exchange(t.Context(), code(t, hub, app), redirectURL)
	if err == nil || !token.Access.IsZero() {
		t.Errorf("token %v, error %v", token, err)
	}
}

func TestIntrospectReturnsThePortalInEveryVersion(t *testing.T) {
	hub, app := newApp(t)
	access := secret.New(hub.Issue("62515", time.Hour))
	for _, version := range []string{"v1", "v3", "2026-03", "2026-09"} {
		app.TokenURL = hub.URL + "/oauth/" + version + "/token"
		if portal, err := app.Introspect(t.Context(), access); portal != "62515" || err != nil {
			t.Errorf("%s: portal %q, error %v", version, portal, err)
		}
	}
	for name, token := range map[string]string{"unknown": "x", "expired": hub.Issue("62515", 0), "no portal's": hub.Issue("none", time.Hour)} {
		if portal, err := app.Introspect(t.Context(), secret.New(token)); portal != "" || err == nil {
			t.Errorf("%s: portal %q, error %v", name, portal, err)
		}
	}
	app.ClientSecret = secret.New("wrong")
	_, err := app.Introspect(t.Context(), access)
	if e, is := errors.AsType[*hubspot.Error](err); !is || e.Kind != hubspot.AppRefused {
		t.Errorf("wrong secret: %v", err)
	}
}

func TestAnErrorOfIntrospectNeverContainsTheToken(t *testing.T) {
	var path string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path = r.RequestURI
		_, _ = w.Write([]byte(r.FormValue("token") + ` is no JSON`))
	}))
	defer server.Close()
	app := &hubspot.App{ClientID: "id", ClientSecret: secret.New("s"), TokenURL: server.URL + "/oauth/2026-03/token",
		Client: hubspot.NewClient(server.Client().Transport, 10*time.Second)}
	_, err := app.Introspect(t.Context(), secret.New(hubspottest.Canary))
	if err == nil || strings.Contains(err.Error(), hubspottest.Canary) {
		t.Errorf("error %v", err)
	}
	if diff := cmp.Diff("/oauth/2026-03/token/introspect", path); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}
