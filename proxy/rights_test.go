package proxy_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"go.uber.org/zap"

	"hubspot-auth-proxy/proxy"
	"hubspot-auth-proxy/proxy/clients"
	"hubspot-auth-proxy/tokens/store"
	"hubspot-auth-proxy/tokens/testkit"
)

func TestAClientGetsItsOwnPortalsOnly(t *testing.T) {
	c := startKeyed(t)
	for request, portal := range map[string]string{
		"one /a":                    portalID,
		"one /portals/62515/a":      portalID,
		"static /a":                 staticPortal,
		"two /portals/62515/a":      portalID,
		"two /portals/62516/a":      staticPortal,
		"all /portals/62517/a":      keyPortal,
		"one /a X: 62515":           portalID,
		"two /a X: 62516":           staticPortal,
		"one /portals/62516/a":      "",
		"one /portals/62517/a":      "",
		"one /a X: 62516":           "",
		"two /portals/62517/a":      "",
		"static /portals/62515/a":   "",
		"one /portals/1/a":          "",
		"unconnected /a X: 62515":   "",
		"one /portals/62516/../a":   "",
		"one /portals/6251562516/a": "",
	} {
		t.Run(request, func(t *testing.T) {
			fields := strings.SplitN(request, " ", 3)
			lines := []string{"Authorization: Bearer {" + fields[0] + "}"}
			if len(fields) == 3 {
				lines = append(lines, "X-HubSpot-Portal-Id:"+strings.TrimPrefix(fields[2], "X:"))
			}
			got := c.ask("GET "+fields[1], lines...)
			if portal != "" {
				wantPortal(t, got, portal)
			} else {
				refusal(t, got, forbidden)
			}
		})
	}
	for _, name := range []string{"two", "all"} {
		refusal(t, c.ask("GET /a", "Authorization: Bearer {"+name+"}"), refused{400, "PORTAL_REQUIRED"})
	}
	refusal(t, c.ask("GET /portals/62515/a", "Authorization: Bearer {one}", "X-HubSpot-Portal-Id: 62516"), refused{400, "PORTAL_CONFLICT"})
}

func TestTheDefaultPortalIsNoRight(t *testing.T) {
	c := startKeyed(t, func(o *proxy.Options) { o.DefaultPortal = keyPortal })
	refusal(t, c.ask("GET /a", "Authorization: Bearer {two}"), forbidden)
	wantPortal(t, c.ask("GET /a", "Authorization: Bearer {one}"), portalID)
	wantPortal(t, c.ask("GET /a", "Authorization: Bearer {all}"), keyPortal)
	if n := c.hub.RequestsFor(keyPortal); n != 1 {
		t.Errorf("%d requests for the default portal", n)
	}
}

// Connected or not, served here or not, ended or not: who has no right sees no
// difference.
func TestWhoHasNoRightLearnsNothingOfThePortal(t *testing.T) {
	c := startKeyed(t, func(o *proxy.Options) { o.ServePortals = []string{portalID, staticPortal, "98"} })
	var texts []string
	for _, portal := range []string{staticPortal, keyPortal, "98", "97"} {
		got := c.ask("GET /portals/"+portal+"/a", "Authorization: Bearer {one}")
		message := refusal(t, got, forbidden)
		got.Header.Del("Date")
		header := fmt.Sprint(got.Header)
		texts = append(texts, strings.ReplaceAll(message+header, portal, "N"))
	}
	for _, text := range texts {
		// Their lengths differ with the portal's.
		if a, b, _ := strings.Cut(text, "Content-Length:["); b != "" {
			_, b, _ = strings.Cut(b, "]")
			text = a + b
		}
		first := texts[0]
		if a, b, _ := strings.Cut(first, "Content-Length:["); b != "" {
			_, b, _ = strings.Cut(b, "]")
			first = a + b
		}
		if text != first {
			t.Errorf("%s\ndiffers from\n%s", text, first)
		}
	}
	c.wantNoRequests(t)
	// Who has the right does learn it.
	refusal(t, c.ask("GET /a", "Authorization: Bearer {unconnected}"), refused{403, "PORTAL_NOT_CONNECTED"})
	// Nor does a wrong key tell whether a portal's id is one.
	refusal(t, c.ask("GET /portals/x/a", "Authorization: Bearer "+unknownKey), unauthenticated)
}

func TestAReaderReadsOnly(t *testing.T) {
	c := startKeyed(t)
	for _, request := range []string{
		"GET /crm/v3/objects/contacts",
		"HEAD /crm/v3/objects/contacts",
		"GET /",
		"GET /crm/v3/objects/contacts/search",
		"POST /crm/v3/objects/contacts/search",
		"POST /crm/v3/objects/contacts/search?a=/b",
		"POST /crm/objects/2026-03/contacts/search",
		"POST /crm/objects/2026-09-beta/contacts/search",
		"POST /crm/objects/v3/0-1/search",
		"POST /crm/objects/v4/2-123/search",
		"POST /crm/v3/objects/p_x/search",
		"POST /crm/v3/objects/p62515_My-Thing/search",
		"POST /portals/62515/crm/v3/objects/contacts/search",
		"POST http://elsewhere/crm/v3/objects/contacts/search",
		"POST /crm/v3/objects/contacts/batch/read",
		"POST /crm/v3/objects/contacts/batch/read?archived=false",
		"POST /crm/objects/2026-03/0-1/batch/read",
		"POST /crm/v3/associations/contacts/companies/batch/read",
		"POST /crm/v4/associations/0-1/2-123/batch/read",
		"POST /crm/associations/2026-03/contacts/deals/batch/read",
		"POST /crm/v3/properties/contacts/batch/read",
		"POST /crm/properties/2026-03-beta/contacts/batch/read",
		"POST /crm/v3/lists/search",
		"POST /crm/lists/2026-03/search",
		"POST /collector/graphql",
		"POST /portals/62515/collector/graphql",
	} {
		t.Run(request, func(t *testing.T) {
			if got := c.ask(request, "Authorization: Bearer {reader}", "Content-Length: 0"); got.StatusCode != 200 {
				t.Errorf("%d %s", got.StatusCode, got.text)
			}
		})
	}
	passed := c.hub.Requests()
	for _, request := range []string{
		"POST /crm/v3/objects/contacts",
		"PUT /crm/v3/objects/contacts/search",
		"PATCH /crm/v3/objects/contacts/1",
		"DELETE /crm/v3/objects/contacts/1",
		"OPTIONS /crm/v3/objects/contacts",
		"OPTIONS *",
		"get /crm/v3/objects/contacts",
		"FOO /crm/v3/objects/contacts",
		"POST /crm/v3/objects/contacts/batch/create",
		"POST /crm/v3/objects/contacts/search/",
		"POST /crm/v3/objects/contacts/search/../batch/archive",
		"POST /crm/v3/objects/contacts/search/..",
		"POST /crm/v3/objects/contacts/search/1",
		"POST /crm/v3/objects/contacts/search;x=1",
		"POST /crm/v3/objects/../search",
		"POST /crm/v3/objects/./search",
		"POST /crm/v3/objects//search",
		"POST /crm/v3/objects/contacts/batch/../search",
		"POST /crm/v3/objects/contacts%2Fsearch",
		"POST /crm/v3/objects/contacts/search%2F..%2Fbatch",
		"POST /crm/v3/objects/contacts/%73earch",
		"POST /crm/v3/objects/contacts%00/search",
		"POST /crm/v3/objects/contacts/search%0a",
		"POST /crm/v3/objects/contacts/archive?/search",
		"POST /crm/v3/objects/contacts?x=/crm/v3/objects/contacts/search",
		"POST //crm/v3/objects/contacts/search",
		"POST /x/crm/v3/objects/contacts/search",
		"POST /crm/v3/objects/a/b/search",
		"POST /crm/vx/objects/contacts/search",
		"POST /crm/objects/2026/contacts/search",
		"PUT /crm/v3/objects/contacts/batch/read",
		"POST /crm/v3/objects/contacts/batch/update",
		"POST /crm/v3/objects/contacts/batch/upsert",
		"POST /crm/v3/objects/contacts/batch/read/",
		"POST /crm/v3/objects/contacts/batch/read/../archive",
		"POST /crm/v3/objects/batch/read",
		"POST /crm/v3/objects/contacts/1/batch/read",
		"POST /crm/v3/objects/contacts/batch%2Fread",
		"POST /crm/v3/objects/contacts;/batch/read",
		"POST /crm/v3/associations/contacts/batch/read",
		"POST /crm/v3/associations/contacts/companies/batch/create",
		"POST /crm/v4/associations/contacts/../batch/read",
		"POST /crm/v3/properties/contacts",
		"POST /crm/v3/properties/contacts/batch/archive",
		"POST /crm/v3/lists",
		"POST /crm/v3/lists/search/1",
		"POST /crm/v3/lists/1/search",
		"POST /crm/v3/owners/batch/read",
		"POST /automation/v4/flows/batch/read",
		"POST /collector/graphql/x",
		"POST /collector/graphql/../../crm/v3/objects/contacts",
		"POST //collector/graphql",
		"POST /CRM/v3/objects/contacts/search",
		"POST /oauth/v1/token/introspect",
		"DELETE /oauth/v1/refresh-tokens/x",
	} {
		t.Run(request, func(t *testing.T) {
			refusal(t, c.ask(request, "Authorization: Bearer {reader}", "Content-Length: 0"), forbidden)
		})
	}
	for _, line := range []string{
		"X-HTTP-Method-Override: DELETE", "x-http-method-override: GET", "X-HTTP-Method: PUT", "X-Method-Override: PATCH",
		"X-HTTP-Method-Override:",
		"Connection: X-HTTP-Method-Override\r\nX-HTTP-Method-Override: DELETE",
		"X_HTTP_METHOD_OVERRIDE: DELETE", "x-http_method-override: DELETE", "X_Method_Override: PUT", "x_http_method: DELETE",
	} {
		for _, request := range []string{"GET /a", "POST /crm/v3/objects/contacts/search"} {
			refusal(t, c.ask(request, "Authorization: Bearer {reader}", "Content-Length: 0", line), forbidden)
		}
		// Those who may write may do so by these, too.
		wantPortal(t, c.ask("POST /a", "Authorization: Bearer {one}", "Content-Length: 0", line), portalID)
	}
	for _, query := range []string{"_method=DELETE", "a&_METHOD=x", "%5fmethod=DELETE", "a;_method", "+_method%20=DELETE", "_m%65thod="} {
		for _, request := range []string{"GET /a?", "POST /crm/v3/objects/contacts/search?"} {
			refusal(t, c.ask(request+query, "Authorization: Bearer {reader}", "Content-Length: 0"), forbidden)
		}
		wantPortal(t, c.ask("POST /a?"+query, "Authorization: Bearer {one}", "Content-Length: 0"), portalID)
	}
	for _, query := range []string{"method=DELETE", "x_method=a", "a=_method", "_methods=1"} {
		wantPortal(t, c.ask("GET /a?"+query, "Authorization: Bearer {reader}"), portalID)
	}
	if n := c.hub.RequestsFor(portalID); n != passed+20 {
		t.Errorf("%d requests reached HubSpot, want %d", n, passed+20)
	}
}

func TestACutOffClientIsOutAtOnce(t *testing.T) {
	redis, end := store.Embedded()
	t.Cleanup(end)
	store := clients.Store{Redis: redis, Prefix: "hubspot:"}
	set := clients.NewSet(store, zap.NewNop())
	t.Cleanup(set.Close)
	r := startKinds(t, setup{redis: redis, proxy: func(o *proxy.Options) { o.Clients, o.AllowAnonymous = set, false }})
	key := clients.NewKey()
	status := func() int {
		return r.answerTo("GET /a HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + key.Reveal() + "\r\n\r\n").StatusCode
	}
	if err := store.Add(t.Context(), clients.Client{Name: "a", KeySHA256: clients.Hash(key), Portals: []string{"*"}}); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "it is let in", func() bool { return status() == 200 })
	if err := store.Remove(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "it is out", func() bool { return status() == 401 })
}

// Whatever a client with a key for one portal sends, HubSpot never gets
// another portal's credential from it.
func TestNoRequestGetsAnotherPortalsCredential(t *testing.T) {
	for mode, change := range map[string]func(*proxy.Options){
		"keys only": func(*proxy.Options) {},
		"a default": func(o *proxy.Options) { o.DefaultPortal = keyPortal },
		"anonymous": anonymous,
	} {
		t.Run(mode, func(t *testing.T) {
			c := startKeyed(t, change)
			random := rand.New(rand.NewPCG(20261123, 7))
			pick := func(options ...string) string { return options[random.IntN(len(options))] }
			n := volume(3000, 1000)
			let := 0
			for i := range n {
				key := "{" + pick("one", "reader") + "}"
				id := func() string {
					return pick("62515", "62516", "62517", "62515", "1", "%36", "x", "062516", "62516/", "62516%2f")
				}
				target := pick("", "", "http://api.hubapi.com", "http://62516") +
					pick("", "", "/portals/"+id(), "//portals/"+id(), "/portals/"+id()+"/portals/"+id(), "/x/../portals/"+id(), "/portal%73/"+id()) +
					pick("/", "/a", "/crm/v3/objects/contacts/search", "//a", "/../portals/62516/a", "/oauth/v1/x", "/a;b=c", "/%2e%2e/portals/62516/a") +
					pick("", "?b=1", "?portalId=62516", "?hapikey=", "?a=b&hapikey="+key, "?hapi%6bey="+key+";hapikey="+key, "?access_token="+key)
				// With no key in the header, the query has one.
				lines := []string{"Content-Length: 0"}
				if strings.Contains(target, "api%6bey=") || strings.Contains(target, "hapikey="+key) {
					lines = append(lines, pick("X: y", "Authorization: Bearer "+key, "Authorization: Basic x"))
				} else {
					lines = append(lines, pick("Authorization: Bearer ", "authorization: bearer ", "Authorization:BEARER  ")+key)
				}
				for range random.IntN(3) {
					lines = append(lines, pick("X-HubSpot-Portal-Id: ", "x-hubspot-portal-id:", "X_HubSpot_Portal_Id: ", "X-Portal: ")+id())
				}
				if random.IntN(4) == 0 {
					lines = append(lines, pick("Connection: X-HubSpot-Portal-Id", "Connection: Authorization, close", "Forwarded: for=62516", "Authorization: Bearer "+staticToken, "Origin: null"))
				}
				request := pick("GET", "GET", "POST", "PUT", "DELETE") + " " + target
				got := c.ask(request, lines...)
				if got.StatusCode == 200 {
					let++
				}
				if c.hub.RequestsFor(staticPortal)+c.hub.RequestsFor(keyPortal) > 0 {
					t.Fatalf("request %d reached HubSpot with another portal's credential: %s %q", i, request, lines)
				}
			}
			if let < n/20 {
				t.Errorf("%d of %d were let through: that shows little", let, n)
			}
			if v := c.hub.Violations(); len(v) > 0 {
				t.Error(v)
			}
		})
	}
}
