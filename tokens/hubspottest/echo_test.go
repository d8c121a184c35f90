package hubspottest_test

import (
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hubspot-auth-proxy/tokens/hubspottest"
)

func TestAnObserverSeesEveryRequest(t *testing.T) {
	hub := newHub(t)
	client := newClient(t, hub)
	type seen struct{ target, portal, credential string }
	var got []seen // the requests come one by one
	hub.Observe(func(e hubspottest.Echo) { got = append(got, seen{e.Target, e.Portal, e.Credential}) })
	do(t, client, "GET", hub.URL+"/live", hub.Issue(portal, time.Hour), nil)
	do(t, client, "GET", hub.URL+"/dead", hub.Issue(portal, 0), nil)
	do(t, client, "GET", hub.URL+"/unknown", "x", nil)
	do(t, client, "POST", hub.URL+"/oauth/v1/token", "", nil)
	hub.Observe(nil)
	do(t, client, "GET", hub.URL+"/unseen", "x", nil)
	want := []seen{
		{"/live", portal, hubspottest.CredentialOAuth},
		{"/dead", portal, hubspottest.CredentialOAuth},
		{"/unknown", "", ""},
		{"/oauth/v1/token", "", ""},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(seen{})); diff != "" {
		t.Error(diff)
	}
}

func TestAHandlerAnswersWhatItWantsOfValidRequests(t *testing.T) {
	hub := newHub(t)
	client, token := newClient(t, hub), hub.Issue(portal, time.Hour)
	hub.Handle(func(w http.ResponseWriter, r *http.Request, portal string) bool {
		if r.URL.Path == "/echoed" {
			return false
		}
		_, _ = io.WriteString(w, portal)
		return true
	})
	for _, path := range []string{"/a", "//b"} {
		if a := do(t, client, "GET", hub.URL+path, token, nil); a.body != portal {
			t.Errorf("%s: %d %q", path, a.StatusCode, a.body)
		}
	}
	if a := do(t, client, "GET", hub.URL+"/oauth/a", "", nil); a.StatusCode != 200 || a.body != "" {
		t.Errorf("/oauth/a: %d %q", a.StatusCode, a.body)
	}
	if e := echoOf(t, do(t, client, "GET", hub.URL+"/echoed", token, nil)); e.Portal != portal {
		t.Error(e)
	}
	if a := do(t, client, "GET", hub.URL+"/a", "unknown", nil); a.StatusCode != 401 {
		t.Error(a.StatusCode)
	}
}
