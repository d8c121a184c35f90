package hubspottest_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hubspot-auth-proxy/tokens/hubspottest"
)

func TestFailNextMakesThePortalsNextRequestsFail(t *testing.T) {
	hub := newHub(t)
	client, mine, other := newClient(t, hub), hub.Issue(portal, time.Hour), hub.Issue("62516", time.Hour)
	if a := do(t, client, "POST", hub.URL+"/fake/fail-next/"+portal+"?n=2&code=429", "", nil); a.StatusCode != 200 {
		t.Fatal(a.StatusCode)
	}
	for i, want := range []struct {
		token  string
		status int
	}{{other, 200}, {"unknown", 401}, {mine, 429}, {mine, 429}, {mine, 200}} {
		a := do(t, client, "GET", hub.URL+"/a", want.token, nil)
		if a.StatusCode != want.status {
			t.Errorf("request %d: %d", i, a.StatusCode)
		}
		if want.status == 429 && fields(t, a.body)["message"] != "You have reached your secondly limit." {
			t.Error(a.body)
		}
	}
}

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
