package hubspot_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"hubspot-auth-proxy/tokens/hubspot"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/secret"
)

func TestAccountReturnsThePortalOfACredential(t *testing.T) {
	t.Parallel()
	hub := hubspottest.NewServer()
	t.Cleanup(hub.Close)
	hub.SetAccessToken("62516", hubspottest.Canary+"-token")
	hub.SetAPIKey("62517", hubspottest.Canary+"-key")
	client := hubspot.NewClient(&http.Transport{DisableKeepAlives: true}, 5*time.Second)
	upstream, _ := url.Parse(hub.URL)
	for value, want := range map[string]struct {
		portal string
		isKey  bool
		status int
	}{
		hubspottest.Canary + "-token": {"62516", false, 0},
		hubspottest.Canary + "-key":   {"62517", true, 0},
		hubspottest.Canary + "-other": {"", false, http.StatusUnauthorized},
	} {
		portal, err := hubspot.Account(t.Context(), client, upstream, secret.New(value), want.isKey)
		failure, failed := errors.AsType[*hubspot.AccountError](err)
		if portal != want.portal || failed != (want.status != 0) || failed && failure.Status != want.status {
			t.Errorf("%s: %q, %v", value, portal, err)
		}
	}
}

// A server's answer may repeat the request, so no error contains the answer.
func TestNoErrorOfAccountContainsTheCredential(t *testing.T) {
	t.Parallel()
	const key = hubspottest.Canary + "-key"
	client := hubspot.NewClient(&http.Transport{DisableKeepAlives: true}, 5*time.Second)
	for name, answer := range map[string]http.HandlerFunc{
		"the query":     func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.URL.RawQuery) },
		"a status":      func(w http.ResponseWriter, r *http.Request) { http.Error(w, r.URL.String(), http.StatusBadGateway) },
		"another shape": func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, `{"portalId":"`+key+`"}`) },
		"a redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/"+r.URL.RawQuery, http.StatusFound)
		},
		"a break": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		server := httptest.NewServer(answer)
		t.Cleanup(server.Close)
		upstream, _ := url.Parse(server.URL)
		if portal, err := hubspot.Account(t.Context(), client, upstream, secret.New(key), true); err == nil || strings.Contains(err.Error(), hubspottest.Canary) {
			t.Errorf("%s: %q, %v", name, portal, err)
		}
	}
}

func TestScopesReturnsThoseOfAPrivateApp(t *testing.T) {
	t.Parallel()
	hub := hubspottest.NewServer()
	t.Cleanup(hub.Close)
	const token = hubspottest.Canary + "-token"
	hub.SetAccessToken("62516", token)
	client := hubspot.NewClient(&http.Transport{DisableKeepAlives: true}, 5*time.Second)
	upstream, _ := url.Parse(hub.URL)
	if scopes, err := hubspot.Scopes(t.Context(), client, upstream, secret.New(token)); scopes != "oauth" || err != nil {
		t.Errorf("%q, %v", scopes, err)
	}
	scopes, err := hubspot.Scopes(t.Context(), client, upstream, secret.New(token+"-of-a-service-key"))
	if failure, is := errors.AsType[*hubspot.AccountError](err); scopes != "" || !is || failure.Status != http.StatusNotFound || strings.Contains(err.Error(), token) {
		t.Errorf("%q, %v", scopes, err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, `{"scopes":["b","a","b","x y","<script>",""]}`)
	}))
	t.Cleanup(server.Close)
	upstream, _ = url.Parse(server.URL)
	if scopes, err := hubspot.Scopes(t.Context(), client, upstream, secret.New(token)); scopes != "a b" || err != nil {
		t.Errorf("%q, %v", scopes, err)
	}
}
