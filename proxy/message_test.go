package proxy_test

import (
	"strings"
	"testing"

	"hubspot-auth-proxy/proxy"
)

func TestAMessageNamesWhatIsWrong(t *testing.T) {
	c := startKeyed(t, func(o *proxy.Options) { o.PortalDomain = "hubspot.example.com" })
	for name, test := range map[string]struct {
		request string
		lines   []string
		want    refused
		says    string
		not     string
	}{
		"no key":          {"GET /a", nil, unauthenticated, "The call has no client key.", "known client key."},
		"an unknown key":  {"GET /a", []string{"Authorization: Bearer " + unknownKey}, unauthenticated, "A token of HubSpot is not a client key.", "has no client key"},
		"path":            {"GET /portals/x/a", []string{"Authorization: Bearer {all}"}, refused{400, "PORTAL_INVALID"}, "The part of the path after /portals/ is not a portal id.", "X-HubSpot-Portal-Id"},
		"header":          {"GET /a", []string{"Authorization: Bearer {all}", "X-HubSpot-Portal-Id: x"}, refused{400, "PORTAL_INVALID"}, "X-HubSpot-Portal-Id: 62515", "/portals/"},
		"CONNECT":         {"CONNECT api.hubapi.com:443", nil, refused{405, "METHOD_REFUSED"}, "INTERCEPT_CA_CERT_FILE is not set", "base URL of HubSpot's API; it is not"},
		"TRACE":           {"TRACE /a", nil, refused{405, "METHOD_REFUSED"}, "Use another method.", "HTTP_PROXY"},
		"a key in a name": {"GET /portals/" + unknownKey + "/a", []string{"Authorization: Bearer {all}"}, refused{400, "REQUEST_INVALID"}, "contains a client key", unknownKey},
	} {
		t.Run(name, func(t *testing.T) {
			message := refusal(t, c.ask(test.request, test.lines...), test.want)
			if !strings.Contains(message, test.says) || strings.Contains(message, test.not) {
				t.Errorf("the message is %q; it should say %q, and not %q", message, test.says, test.not)
			}
		})
	}
	host := c.answerTo("GET /a HTTP/1.1\r\nHost: x.hubspot.example.com\r\nAuthorization: Bearer " + c.key["all"] + "\r\n\r\n")
	message := refusal(t, host, refused{400, "PORTAL_INVALID"})
	if want := "The part of the host name before .hubspot.example.com is not a portal id. A portal id is HubSpot's Hub ID, digits only: 62515.hubspot.example.com."; message != want {
		t.Errorf("the message is %q, want %q", message, want)
	}
}

// The document is proxy/README.md, section Malformed requests.
func TestAMalformedRequestIsAnsweredAsDocumented(t *testing.T) {
	c := startKeyed(t)
	for request, want := range map[string]int{
		"GET /crm/v3/%zz HTTP/1.1\r\nHost: localhost\r\n\r\n":                                     400,
		"GET /a HTTP/1.1\r\n\r\n":                                                                 400,
		"GET /a HTTP/1.1\r\nHost: a/b\r\n\r\n":                                                    400,
		"GET /a HTTP/1.1\r\nHost: localhost\r\nX-A: " + strings.Repeat("a", 140<<10) + "\r\n\r\n": 431,
		"POST /a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n":                  501,
		"GET /a HTTP/3.0\r\nHost: localhost\r\n\r\n":                                              505,
	} {
		got := c.answerTo(request)
		if got.StatusCode != want || !strings.HasPrefix(got.Header.Get("Content-Type"), "text/plain") || got.Header.Get("X-Hubspot-Auth-Proxy-Error") != "" {
			t.Errorf("%.60q: %d %v, want %d", request, got.StatusCode, got.Header, want)
		}
	}
	c.wantNoRequests(t)
}
