package hubspottest_test

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hubspot-auth-proxy/tokens/hubspottest"
)

// refresh calls the token endpoint as the proxy does.
func refresh(t *testing.T, hub *hubspottest.Server, refreshToken string) answer {
	t.Helper()
	return post(t, hub, hub.TokenURL(), refreshForm(refreshToken).Encode(), nil)
}

// post sends a form. change may change the request; nil means no change.
func post(t *testing.T, hub *hubspottest.Server, target, form string, change func(*http.Request)) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "POST", target, strings.NewReader(form))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if change != nil {
		change(r)
	}
	return send(t, newClient(t, hub), r)
}

func TestARenewalIsAnsweredAsByHubSpotInEveryVersion(t *testing.T) {
	hub := newHub(t)
	refreshToken := hub.Connect(portal)
	seen := map[string]bool{}
	for _, version := range []string{"v1", "v3", "2026-03", "2026-09"} {
		t.Run(version, func(t *testing.T) {
			a := post(t, hub, hub.URL+"/oauth/"+version+"/token", refreshForm(refreshToken).Encode(), nil)
			body := fields(t, a.body)
			token, _ := body["access_token"].(string)
			delete(body, "access_token")
			want := map[string]any{
				"refresh_token": refreshToken,
				"expires_in":    1800.0,
				"token_type":    "bearer",
				"token_use":     "access_token",
				"hub_id":        62515.0,
				"scopes":        []any{"oauth", "crm.objects.contacts.read"},
			}
			if diff := cmp.Diff(want, body); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			if len(token) != 300 || !strings.Contains(token, hubspottest.Canary) || seen[token] {
				t.Errorf("access token %q", token)
			}
			seen[token] = true
			if e := echoOf(t, do(t, newClient(t, hub), "GET", hub.URL+"/crm", token, nil)); e.Portal != portal {
				t.Errorf("the token is of portal %s", e.Portal)
			}
		})
	}
	if !strings.Contains(refreshToken, hubspottest.Canary) || !strings.Contains(hubspottest.ClientSecret, hubspottest.Canary) {
		t.Error("a secret has no canary")
	}
}

func TestAnInvalidCallGetsHubSpots400(t *testing.T) {
	without := func(name string) func(url.Values) { return func(v url.Values) { v.Del(name) } }
	set := func(name, value string) func(url.Values) { return func(v url.Values) { v.Set(name, value) } }
	for _, tt := range []struct {
		name        string
		form        func(url.Values)
		request     func(*http.Request)
		code, oauth string
		violations  int
	}{
		{"grant type", without("grant_type"), nil, "BAD_GRANT_TYPE", "unsupported_grant_type", 0},
		{"client id", set("client_id", "x"), nil, "BAD_CLIENT_ID", "invalid_client", 0},
		{"client secret", set("client_secret", "x"), nil, "BAD_CLIENT_SECRET", "invalid_client", 0},
		{"no refresh token", without("refresh_token"), nil, "BAD_REFRESH_TOKEN", "invalid_grant", 0},
		{"unknown refresh token", set("refresh_token", "x"), nil, "BAD_REFRESH_TOKEN", "invalid_grant", 0},
		{"not a form", nil, func(r *http.Request) { r.Header.Set("Content-Type", "application/json") },
			"BAD_GRANT_TYPE", "unsupported_grant_type", 0},
		{"secret in the query", nil, func(r *http.Request) { r.URL.RawQuery = "client_secret=x" },
			"BAD_GRANT_TYPE", "unsupported_grant_type", 1},
		{"refresh token in the query", nil, func(r *http.Request) { r.URL.RawQuery = "refresh_token=x" },
			"BAD_GRANT_TYPE", "unsupported_grant_type", 1},
		{"Basic", nil, func(r *http.Request) { r.SetBasicAuth(hubspottest.ClientID, hubspottest.ClientSecret) },
			"BAD_GRANT_TYPE", "unsupported_grant_type", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			hub := newHub(t)
			form := refreshForm(hub.Connect(portal))
			if tt.form != nil {
				tt.form(form)
			}
			a := post(t, hub, hub.TokenURL(), form.Encode(), tt.request)
			body := fields(t, a.body)
			got := []any{a.StatusCode, body["status"], body["error"], len(hub.Violations()), hub.TokenCallsTotal()}
			if diff := cmp.Diff([]any{400, tt.code, tt.oauth, tt.violations, 1}, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestATokenCallThatIsNotAPOSTGets405(t *testing.T) {
	hub := newHub(t)
	if a := do(t, newClient(t, hub), "GET", hub.TokenURL(), "", nil); a.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("status %d", a.StatusCode)
	}
}

func TestTheTokenEndpointAnswersAsConfigured(t *testing.T) {
	const message = "refresh token is invalid, expired or revoked"
	for _, tt := range []struct {
		name       string
		behaviour  hubspottest.TokenBehaviour
		status     int
		retryAfter string
		want       map[string]any // fields of the body; nil: absent
	}{
		{"life is rounded up", hubspottest.TokenBehaviour{Life: 1500 * time.Millisecond}, 200, "",
			map[string]any{"expires_in": 2.0}},
		{"negative life", hubspottest.TokenBehaviour{Life: -time.Second}, 200, "", map[string]any{"expires_in": -1.0}},
		{"no refresh token", hubspottest.TokenBehaviour{OmitRefreshToken: true}, 200, "", map[string]any{"refresh_token": nil}},
		{"empty access token", hubspottest.TokenBehaviour{EmptyAccessToken: true}, 200, "", map[string]any{"access_token": ""}},
		{"latency", hubspottest.TokenBehaviour{Latency: time.Millisecond}, 200, "", map[string]any{"token_type": "bearer"}},
		{"429", hubspottest.TokenBehaviour{Status: 429, RetryAfter: "7"}, 429, "7",
			map[string]any{"errorType": "RATE_LIMIT", "policyName": "SECONDLY"}},
		{"code", hubspottest.TokenBehaviour{Code: "BAD_REFRESH_TOKEN"}, 400, "", map[string]any{"status": "BAD_REFRESH_TOKEN",
			"error": "invalid_grant", "message": message, "error_description": message}},
		{"code, old shape", hubspottest.TokenBehaviour{Status: 400, Code: "BAD_REFRESH_TOKEN", OldShape: true}, 400, "",
			map[string]any{"status": "BAD_REFRESH_TOKEN", "error": nil, "message": "missing or invalid refresh token"}},
		{"BAD_HUB", hubspottest.TokenBehaviour{Code: "BAD_HUB"}, 400, "", map[string]any{"error": "access_denied"}},
		{"own body", hubspottest.TokenBehaviour{Status: 503, Body: `{"a":1}`, RetryAfter: "1"}, 503, "1", map[string]any{"a": 1.0}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			hub := newHub(t)
			hub.SetToken(tt.behaviour)
			a := refresh(t, hub, hub.Connect(portal))
			if a.StatusCode != tt.status || a.Header.Get("Retry-After") != tt.retryAfter {
				t.Errorf("status %d, Retry-After %q", a.StatusCode, a.Header.Get("Retry-After"))
			}
			body := fields(t, a.body)
			for name, want := range tt.want {
				if diff := cmp.Diff(want, body[name]); diff != "" {
					t.Errorf("%s: -want +got\n%s", name, diff)
				}
			}
		})
	}
}

func TestATokenExpiresAfterItsLife(t *testing.T) {
	hub := newHub(t)
	hub.SetToken(hubspottest.TokenBehaviour{Life: time.Nanosecond})
	token, _ := fields(t, refresh(t, hub, hub.Connect(portal)).body)["access_token"].(string)
	check401(t, do(t, newClient(t, hub), "GET", hub.URL+"/crm", token, nil), "EXPIRED_AUTHENTICATION")
}

func TestRotationEndsTheFormerRefreshToken(t *testing.T) {
	hub := newHub(t)
	hub.SetToken(hubspottest.TokenBehaviour{Rotate: true})
	first := hub.Connect(portal)
	second, _ := fields(t, refresh(t, hub, first).body)["refresh_token"].(string)
	if second == "" || second == first {
		t.Fatalf("refresh token %q after %q", second, first)
	}
	if a := refresh(t, hub, first); a.StatusCode != http.StatusBadRequest {
		t.Errorf("former: %d", a.StatusCode)
	}
	if a := refresh(t, hub, second); a.StatusCode != http.StatusOK {
		t.Errorf("latter: %d", a.StatusCode)
	}
	if hub.TokenCalls(portal) != 3 {
		t.Errorf("%d calls", hub.TokenCalls(portal))
	}
}

func TestAGrantEndsByDisconnectAndByConnectingAgain(t *testing.T) {
	hub := newHub(t)
	first := hub.Connect(portal)
	hub.Disconnect(portal)
	hub.Disconnect(portal)
	second := hub.Connect(portal)
	third := hub.Connect(portal)
	for i, refreshToken := range []string{first, second} {
		if got := fields(t, refresh(t, hub, refreshToken).body)["status"]; got != "BAD_REFRESH_TOKEN" {
			t.Errorf("%d: %v", i, got)
		}
	}
	if a := refresh(t, hub, third); a.StatusCode != http.StatusOK {
		t.Errorf("the last: %d", a.StatusCode)
	}
	refresh(t, hub, "unknown")
	if got := []int{hub.TokenCalls(portal), hub.TokenCallsTotal(), hub.TokenCalls("1")}; !cmp.Equal(got, []int{3, 4, 0}) {
		t.Errorf("calls %d", got)
	}
}

func TestAHangingCallIsAnsweredAfterSetToken(t *testing.T) {
	hub := newHub(t)
	refreshToken := hub.Connect(portal)
	hub.SetToken(hubspottest.TokenBehaviour{Hang: true})
	released := make(chan error, 1)
	go func() {
		released <- hub.Until(t.Context(), func() bool { return hub.TokenCalls(portal) == 1 })
		hub.SetToken(hubspottest.TokenBehaviour{})
	}()
	if a := refresh(t, hub, refreshToken); a.StatusCode != http.StatusOK {
		t.Errorf("status %d", a.StatusCode)
	}
	if err := <-released; err != nil {
		t.Error(err)
	}
}

func TestAHangingCallEndsWhenItsClientDisconnects(t *testing.T) {
	hub := newHub(t)
	hub.SetToken(hubspottest.TokenBehaviour{Hang: true})
	ctx, cancel := context.WithCancel(t.Context())
	r, _ := http.NewRequestWithContext(ctx, "POST", hub.TokenURL(), nil)
	go func() {
		_ = hub.Until(t.Context(), func() bool { return hub.TokenCallsTotal() == 1 })
		cancel()
	}()
	if _, err := newClient(t, hub).Do(r); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestATokenCallMayBeReset(t *testing.T) {
	hub := newHub(t)
	hub.SetToken(hubspottest.TokenBehaviour{Reset: true})
	client := newClient(t, hub)
	_, err := client.PostForm(hub.TokenURL(), refreshForm(hub.Connect(portal)))
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("error %v", err)
	}
	if hub.TokenCalls(portal) != 1 {
		t.Errorf("%d calls", hub.TokenCalls(portal))
	}
}
