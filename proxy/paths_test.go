package proxy_test

import (
	"math/rand/v2"
	"net/url"
	"path"
	"strings"
	"sync/atomic"
	"testing"

	"hubspot-auth-proxy/proxy"
	"hubspot-auth-proxy/tokens/hubspottest"
)

func TestAClientMayUseItsPathsOnly(t *testing.T) {
	c := startKeyed(t)
	for _, request := range []string{
		"GET /crm/v3/objects/contacts", "GET /crm/v3/objects/contacts/", "POST /crm/v3/objects/contacts/batch/create", "DELETE /crm/v3/objects/contacts/1?a=/../b;c", "GET /crm/v3/owners?limit=1",
		"GET /portals/62515/crm/v3/objects/contacts/1", "GET http://elsewhere/crm/v3/owners", "GET /crm/v3/objects/contacts/a%20b/%C3%A9", "GET /crm/v3/objects/contacts/a@b.example",
	} {
		wantPortal(t, c.ask(request, "Authorization: Bearer {contacts}", "Content-Length: 0"), portalID)
	}
	wantPortal(t, c.ask("GET /anything/at/all", "Authorization: Bearer {plain}"), portalID)
	before := c.hub.Requests()
	for _, request := range []string{
		"GET /", "GET /crm/v3/objects", "GET /crm/v3/objects/contactsx", "GET /crm/v3/objects/deals", "GET /CRM/v3/objects/contacts", "GET /x/crm/v3/owners", "GET /crm/v3/owners2",
		"GET /crm/v3/objects/contacts/../deals", "GET /crm/v3/objects/contacts/..", "GET /crm/v3/objects/contacts/./1", "GET /crm/v3/objects/contacts/%2e%2e/deals", "GET /crm/v3/objects/contacts/..%2fdeals",
		"GET /crm/v3/objects/contacts%2f..%2fdeals", "GET /crm/v3/objects/contacts/..;/deals", "GET /crm/v3/objects/contacts;x=/../deals", "GET /crm/v3/objects/contacts//1", "GET //crm/v3/objects/contacts",
		"GET /crm/v3/objects/contacts/%252e%252e/deals", "GET /crm/v3/objects/contacts\\..\\deals", "GET /crm/v3/objects/contacts/%c0%ae%c0%ae/deals", "GET /crm/v3/objects/contacts/%00", "GET /crm/v3/objects/contacts/a|b",
		"GET /crm/v3/objects/contacts/\xff", "OPTIONS *", "POST /oauth/v1/token", "GET /oauth/v1/access-tokens/x", "GET /portals/62515/portals/62515/crm/v3/owners",
	} {
		refusal(t, c.ask(request, "Authorization: Bearer {contacts}", "Content-Length: 0"), forbidden)
	}
	for _, line := range []string{"X-HTTP-Method-Override: GET", "X_METHOD_OVERRIDE: DELETE", "X-Original-URL: /crm/v3/objects/deals", "X-Rewrite-URL: /a", "x_rewrite_url: /a"} {
		refusal(t, c.ask("POST /crm/v3/objects/contacts", "Authorization: Bearer {contacts}", "Content-Length: 0", line), forbidden)
	}
	refusal(t, c.ask("POST /crm/v3/objects/contacts?_method=DELETE", "Authorization: Bearer {contacts}", "Content-Length: 0"), forbidden)
	refusal(t, c.ask("GET /portals/62516/crm/v3/owners", "Authorization: Bearer {contacts}"), forbidden)
	refusal(t, c.ask("GET /a/../b", "Authorization: Bearer {plain}"), forbidden)
	if n := c.hub.Requests() - before; n != 0 {
		t.Errorf("%d requests reached HubSpot", n)
	}
	if message := refusal(t, c.ask("GET /a", "Authorization: Bearer {contacts}"), forbidden); !strings.Contains(message, "/crm/v3/objects/contacts, /crm/v3/owners") {
		t.Errorf("message %q", message)
	}
}

// Whatever a client with path rules sends, HubSpot never gets a request from it that
// a server could take for one of another path.
func TestNoRequestReachesAPathOutsideOfItsRules(t *testing.T) {
	c := startKeyed(t)
	var outside atomic.Value
	c.hub.Observe(func(e hubspottest.Echo) {
		raw, _, _ := strings.Cut(e.Target, "?")
		raw, _, _ = strings.Cut(strings.TrimPrefix(raw, c.hub.URL), "#")
		for range 2 {
			raw = strings.ReplaceAll(raw, `\`, "/")
			if decoded, err := url.PathUnescape(raw); err == nil {
				raw = decoded
			}
		}
		if clean := path.Clean("/" + raw); e.Portal != "" && clean != "/crm/v3/owners" && clean != "/crm/v3/objects/contacts" &&
			!strings.HasPrefix(clean, "/crm/v3/owners/") && !strings.HasPrefix(clean, "/crm/v3/objects/contacts/") {
			outside.Store(e.Target)
		}
	})
	random := rand.New(rand.NewPCG(rand.Uint64(), 1))
	pick := func(options ...string) string { return options[random.IntN(len(options))] }
	passed := 0
	n := volume(3000, 1000)
	for range n {
		target := pick("", "", "http://h", "/portals/62515", "/portals/62515/", "/portals/62516") + pick("/crm/v3/objects/contacts", "/crm/v3/owners", "/crm/v3/objects", "/", "/crm/v3/objects/contacts/1")
		for range random.IntN(4) {
			target += pick("/", "/a", "..", "/..", "%2e", "%2f", "%2F..", ";x", ";/", "\\", "/%2e%2e", "%25", "%252e", "/deals", ".", "%c0%af", "%00", "|", "?", "#", "%20", "//")
		}
		method := pick("GET", "POST", "DELETE")
		got := c.ask(method+" "+target, "Authorization: Bearer {contacts}", "Content-Length: 0", pick("X-A: b", "X-Original-URL: /a", "X-A: b", "X-HTTP-Method-Override: PUT", "Host: a"))
		if got.StatusCode == 200 {
			passed++
		}
	}
	if got := outside.Load(); got != nil {
		t.Errorf("HubSpot got %v", got)
	}
	if passed < n/30 {
		t.Errorf("%d passed: that shows little", passed)
	}
}

func TestAnExpiredKeyIsUnauthenticated(t *testing.T) {
	for _, change := range []func(*proxy.Options){func(*proxy.Options) {}, anonymous} {
		c := startKeyed(t, change)
		for _, request := range []string{"GET /a", "GET /portals/62515/a", "POST /oauth/v1/token"} {
			got := c.ask(request, "Authorization: Bearer {expired}", "Content-Length: 0")
			if message := refusal(t, got, unauthenticated); !strings.Contains(message, "has expired") || got.Header.Get("Www-Authenticate") != "Bearer" {
				t.Errorf("message %q", message)
			}
		}
		wantPortal(t, c.ask("GET /a", "Authorization: Bearer {expiring}"), portalID)
	}
}
