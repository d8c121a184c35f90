package proxy_test

import (
	"strings"
	"testing"

	"hubspot-auth-proxy/proxy"
)

func domain(o *proxy.Options) { o.PortalDomain = "localhost" }

func TestTheHostNameNamesThePortal(t *testing.T) {
	c := startKeyed(t, domain)
	open := startKeyed(t, domain, anonymous)
	for _, test := range []struct {
		host, target, header, client string
		portal, category             string // one of them
	}{
		{"62515.localhost", "/a", "", "one", portalID, ""},
		{"62516.LOCALHOST.:8080", "/a", "", "two", staticPortal, ""},
		{"62516.localhost", "/a", "", "one", "", "CLIENT_FORBIDDEN"},
		{"62516.localhost", "/a", "", "all", staticPortal, ""},
		{"62517.localhost", "/a", "", "", keyPortal, ""},
		{"localhost", "/a", "", "", staticPortal, ""},
		{"127.0.0.1:80", "/a", "", "", staticPortal, ""},
		{"localhost.:80", "/a", "", "", staticPortal, ""},
		{"99.localhost", "/a", "", "", "", "PORTAL_NOT_CONNECTED"},
		{"062515.localhost", "/a", "", "", "", "PORTAL_INVALID"},
		{"0.localhost", "/a", "", "", "", "PORTAL_INVALID"},
		{"www.localhost", "/a", "", "", "", "PORTAL_INVALID"},
		{"a.62515.localhost", "/a", "", "", "", "PORTAL_INVALID"},
		{"62515.62515.localhost", "/a", "", "", "", "PORTAL_INVALID"},
		{"62515_.localhost", "/a", "", "", "", "PORTAL_INVALID"},
		{"12345678901234567890.localhost", "/a", "", "", "", "PORTAL_INVALID"},
		{"www.localhost", "/a", "", "one", "", "PORTAL_INVALID"},
		{"62516..localhost", "/a", "", "all", "", "PORTAL_INVALID"},
		{"62516.localhost..", "/a", "", "one", "", "PORTAL_INVALID"},
		{"62516.localhost:8o80", "/a", "", "one", "", "PORTAL_INVALID"},
		{"www.localhost", "/portals/62515/a", "62515", "one", "", "PORTAL_INVALID"},
		{"www.localhost", "/oauth/v1/a", "", "one", "", "PORTAL_INVALID"},
		{"62515.localhost", "/portals/62515/a", "62515", "one", portalID, ""},
		{"62515.localhost", "/portals/62516/a", "", "all", "", "PORTAL_CONFLICT"},
		{"62515.localhost", "/a", "62516", "all", "", "PORTAL_CONFLICT"},
		{"62515.localhost", "/portals/62516/a", "62516", "all", "", "PORTAL_CONFLICT"},
		{"62516.localhost", "/portals/62516/a", "62515", "all", "", "PORTAL_CONFLICT"},
		{"62515.localhost", "/portals/x/a", "", "one", "", "PORTAL_INVALID"},
		// A client with a key may come by any name.
		{"62516.example.com", "/a", "", "one", portalID, ""},
		{"62516.localhost.example.com", "/a", "", "one", portalID, ""},
		{"62516localhost", "/a", "", "one", portalID, ""},
		{"localhost", "http://62516.localhost/a", "", "one", "", "CLIENT_FORBIDDEN"},
		{"localhost", "http://62515.localhost:1/a", "", "all", portalID, ""},
		// No portal is needed, and none is another's.
		{"62516.localhost", "/oauth/v1/a", "", "one", "", ""},
	} {
		request := "GET " + test.target + " HTTP/1.1\r\nHost: " + test.host + "\r\n"
		if test.header != "" {
			request += "X-HubSpot-Portal-Id: " + test.header + "\r\n"
		}
		asked := open
		if test.client != "" {
			request += "Authorization: Bearer " + c.key[test.client] + "\r\n"
			asked = c
		}
		got := asked.answerTo(request + "\r\n")
		if category := got.Header.Get("X-Hubspot-Auth-Proxy-Error"); category != test.category {
			t.Errorf("%s%s %q by %q: %d %q, want %q", test.host, test.target, test.header, test.client, got.StatusCode, category, test.category)
		} else if category == "" {
			wantPortal(t, got, test.portal)
		} else if category == "PORTAL_INVALID" && !strings.Contains(got.text, "host name") && !strings.HasPrefix(test.target, "/portals/") {
			t.Errorf("%s: %s", test.host, got.text)
		}
	}
	if v := append(c.hub.Violations(), open.hub.Violations()...); len(v) > 0 {
		t.Error(v)
	}
}

func TestWithoutAPortalDomainTheHostNamesNoPortal(t *testing.T) {
	c := startKeyed(t, anonymous)
	wantPortal(t, c.answerTo("GET /a HTTP/1.1\r\nHost: 62517.localhost\r\n\r\n"), staticPortal)
	wantPortal(t, c.answerTo("GET /a HTTP/1.1\r\nHost: www.localhost\r\n\r\n"), staticPortal)
}
