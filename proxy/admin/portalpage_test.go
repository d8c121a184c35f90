package admin_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"hubspot-auth-proxy/proxy"
	"hubspot-auth-proxy/proxy/activity"
	"hubspot-auth-proxy/proxy/clients"
	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/secret"
)

// called returns the activity of a proxy that was called for the portal. The last call has failed.
func called(r *rig) *activity.Log {
	r.Helper()
	log := activity.New(nil)
	callAll(r, caller(r, log))
	return log
}

// callAll makes calls of several kinds. The last one fails.
func callAll(r *rig, call func(path string)) {
	r.Helper()
	r.hub.SetLimits(portal, hubspottest.Limits{Burst: 100, Interval: 10 * time.Second, Daily: 250_000})
	for _, path := range []string{"/crm/v3/objects/contacts?email=" + hubspottest.Canary, "/fake/status?code=404", "/fake/status?code=403", "/fake/status?code=500"} {
		call(path)
	}
}

// caller returns a function that calls a proxy with that activity, for the portal.
func caller(r *rig, log *activity.Log) (call func(path string)) {
	r.Helper()
	upstream, _ := url.Parse(r.hub.URL)
	r.hub.SetAccessToken(portal, hubspottest.Canary)
	p := proxy.New(proxy.Options{Credentials: onlyCredential{tokens.Static(portal, tokens.AccessToken, secret.New(hubspottest.Canary))},
		Upstream: upstream, DefaultPortal: portal, AllowAnonymous: true, Activity: log})
	r.Cleanup(p.Close)
	server := httptest.NewServer(p)
	r.Cleanup(server.Close)
	client := &http.Client{Transport: &http.Transport{}}
	r.Cleanup(client.CloseIdleConnections)
	return func(path string) {
		r.Helper()
		response, err := client.Get(server.URL + path)
		if err != nil {
			r.Fatal(err)
		}
		_ = response.Body.Close()
	}
}

func TestAPortalsPageShowsWhatHelpsToDebugIt(t *testing.T) {
	r := newRig(t, func(r *rig) {
		r.options.Activity = called(r)
		r.options.Clients = func() []clients.Client {
			return []clients.Client{{Name: "billing", Portals: []string{portal}}, {Name: "everything", Portals: []string{"*"}}, {Name: "stranger", Portals: []string{"7"}}}
		}
	})
	at := func(ago time.Duration) int64 { return time.Now().Add(-ago).UnixMilli() }
	r.portals.record(t, portal, "name", "Acme", "set_at", at(48*time.Hour)*1000, "scopes", "oauth crm.objects.contacts.read",
		"history", fmt.Sprintf("%d=expiry %d=rejection", at(90*time.Minute), at(10*time.Minute)))
	body := r.pageAt("/portals/"+portal, "Portal 62515: Acme", "Healthy", "HubSpot&#39;s last errors", "500", "GET /fake/status", "client: anonymous", "correlation id: ", "403",
		"HubSpot&#39;s limit", "of 100 calls left in 10 s, 249,99", "History", "because HubSpot answered 401", "about to expire", "2 days ago", "set or connected",
		"Scopes", "<li>oauth</li><li>crm.objects.contacts.read</li>", "Clients that may use this portal", "billing", "everything")
	if strings.Contains(body, "stranger") || strings.Contains(body, ">404") {
		t.Error(body)
	}
	r.page("By client", "anonymous: 4 calls", `href="/portals/62515"`, "of 100 calls left in 10 s, 249,99")
}

func TestAPortalInNeedHasOneButtonThatHelps(t *testing.T) {
	r := newRig(t, nil)
	r.portals.record(t, portal, "state", "ended", "ended_code", "BAD_REFRESH_TOKEN", "history", "1700000000000=ended:BAD_REFRESH_TOKEN")
	for _, path := range []string{"/", "/portals/" + portal} {
		body := r.pageAt(path, "Ended", "HubSpot refuses the grant", `href="/connect?portal=62515"`, "Connect 62515 again")
		if n := strings.Count(body, "/connect?portal="); n != 1 {
			t.Errorf("%s has %d buttons", path, n)
		}
	}
	r.pageAt("/portals/"+portal, "HubSpot refused the grant (BAD_REFRESH_TOKEN)")
}

func TestAnUnknownPortalHasNoPage(t *testing.T) {
	r := newRig(t, nil)
	for _, id := range []string{"7", "0", "x", "%3Cscript%3E", "62515%2f..", strings.Repeat("9", 30)} {
		if a := r.get("/portals/" + id); a.StatusCode != http.StatusNotFound || !strings.Contains(a.body, "No such portal") {
			t.Errorf("%s: %d %s", id, a.StatusCode, a.body)
		}
	}
	r.portals.record(t, portal)
	if a := r.get("/portals/"+portal, func(request *http.Request) { request.Host = "evil.example" }); a.StatusCode != http.StatusForbidden {
		t.Errorf("another host: %d", a.StatusCode)
	}
	r.redisEnd()
	if a := r.get("/portals/" + portal); a.StatusCode != http.StatusServiceUnavailable || !strings.Contains(a.body, "Redis does not answer") {
		t.Errorf("without Redis: %d %s", a.StatusCode, a.body)
	}
	r = newRig(t, func(r *rig) { r.options.Loopback = false })
	if a := r.get("/portals/" + portal); a.StatusCode != http.StatusForbidden {
		t.Errorf("without a password: %d", a.StatusCode)
	}
}

func TestNothingThatWasSeenOrStoredGetsMarkupOntoAPortalsPage(t *testing.T) {
	for _, attack := range attacks {
		r := newRig(t, func(r *rig) {
			r.options.Clients = func() []clients.Client { return []clients.Client{{Name: attack, Portals: []string{portal, attack}}} }
		})
		r.portals.record(t, portal, "name", attack, "history", "1="+attack+" "+attack, "scopes", attack, "set_at", "1")
		for _, path := range []string{"", "?" + url.Values{"q": {attack[:min(100, len(attack))]}}.Encode()} {
			body := bare(r.get("/portals/" + portal + path).body)
			for _, bad := range []string{"<script", "<img", "<svg/", "<b>", "\u202e", "\x00", "\x1b", `"">`} {
				if strings.Contains(body, bad) {
					t.Errorf("%.60q: the page has %q", attack, bad)
				}
			}
		}
	}
}

func TestThePageOfAPortalSaysWhetherCallsNeedAKey(t *testing.T) {
	for _, anonymous := range []bool{true, false} {
		r := newRig(t, func(r *rig) { r.options.Anonymous = anonymous })
		r.portals.record(t, "1")
		if body := r.pageAt("/portals/1", "No client has a key for this portal."); strings.Contains(body, "Calls need no key.") != anonymous {
			t.Errorf("anonymous %v: %s", anonymous, body)
		}
	}
}

func TestAnEndedGrantSaysWhenCallsAreRefused(t *testing.T) {
	r := newRig(t, nil)
	r.portals.record(t, "1", "state", "ended", "ended_code", "BAD_HUB")
	r.pageAt("/portals/1", "HubSpot refuses the grant (BAD_HUB). When the current token expires, calls get 403 until the portal is connected again.")
	r.portals.record(t, "2", "state", "ended", "ended_code", "BAD_HUB", "expires_at", "1")
	r.pageAt("/portals/2", "HubSpot refuses the grant (BAD_HUB). Calls get 403 until the portal is connected again.")
}
