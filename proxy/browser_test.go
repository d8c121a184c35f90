package proxy_test

import (
	"strings"
	"testing"

	"hubspot-auth-proxy/proxy"
)

func TestCallsFromWebPagesAreRefused(t *testing.T) {
	r := startKinds(t, setup{})
	for _, lines := range [][]string{
		{"Origin: https://evil.example"},
		{"Origin: null"},
		{"Origin:"},
		{"origin: http://localhost"},
		{"Sec-Fetch-Site: cross-site"},
		{"Sec-Fetch-Site: none"},
		{"Sec-Fetch-Dest: image"},
		{"Sec-Fetch-User: ?1"},
		{"Sec-Fetch-Mode: no-cors"},
		{"Sec-Fetch-Mode: navigate"},
		{"Sec-Fetch-Mode: cors", "Sec-Fetch-Site: same-origin"},
		{"Sec-Fetch-Mode: cors", "Sec-Fetch-Mode: cors"},
		{"Connection: Origin", "Origin: https://evil.example"},
	} {
		got := r.answerTo(head(lines...))
		if message := refusal(t, got, refused{403, "BROWSER_REFUSED"}); !strings.Contains(message, "from a server") {
			t.Errorf("%q: message %q", lines, message)
		}
	}
	got := r.answerTo("OPTIONS /a HTTP/1.1\r\nHost: localhost\r\nOrigin: http://a\r\nAccess-Control-Request-Method: GET\r\n\r\n")
	refusal(t, got, refused{403, "BROWSER_REFUSED"})
	if got.Header.Get("Access-Control-Allow-Origin") != "" || r.hub.Requests() != 0 {
		t.Errorf("%v, %d requests", got.Header, r.hub.Requests())
	}
}

func TestSDKsAreNoBrowsers(t *testing.T) {
	r := startKinds(t, setup{})
	for name, lines := range map[string][]string{
		"curl":        {"User-Agent: curl/8.5.0", "Accept: */*"},
		"Node fetch":  {"Connection: keep-alive", "User-Agent: node", "Accept: */*", "Accept-Language: *", "Sec-Fetch-Mode: cors", "Accept-Encoding: gzip, deflate"},
		"Node axios":  {"Accept: application/json, text/plain, */*", "User-Agent: axios/1.7.2", "Accept-Encoding: gzip, compress, deflate, br", "Connection: keep-alive"},
		"Python":      {"User-Agent: python-requests/2.32", "Accept-Encoding: gzip, deflate", "Accept: */*", "Connection: keep-alive"},
		"PHP":         {"User-Agent: hubspot-api-client-php; 11", "Content-Type: application/json"},
		"Ruby":        {"User-Agent: hubspot-api-client-ruby; 18", "Expect:", "Accept: application/json"},
		"Java":        {"Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABk", "Upgrade: h2c", "User-Agent: Java-http-client/21.0.2"},
		"Java okhttp": {"Connection: Keep-Alive", "Accept-Encoding: gzip", "User-Agent: okhttp/4.12.0"},
		"Go":          {"User-Agent: Go-http-client/1.1", "Accept-Encoding: gzip"},
	} {
		t.Run(name, func(t *testing.T) {
			if echo := r.arrived(head(append(lines, "Authorization: Bearer any")...)); echo.Portal != portalID || echo.Header["Upgrade"] != nil {
				t.Errorf("portal %q, %v", echo.Portal, echo.Header)
			}
		})
	}
}

func TestALoopbackProxyAnswersToItsOwnNamesOnly(t *testing.T) {
	r := startKinds(t, setup{})
	for _, host := range []string{"localhost", "LocalHost:8080", "127.0.0.1", "127.0.0.1:8080", "127.9.9.9", "[::1]", "[::1]:8080", "[::ffff:127.0.0.1]:1"} {
		if echo := r.arrived("GET /a HTTP/1.1\r\nHost: " + host + "\r\n\r\n"); echo.Portal != portalID || "http://"+echo.Host != r.hub.URL {
			t.Errorf("%s: portal %q, Host %q", host, echo.Portal, echo.Host)
		}
	}
	before := r.hub.Requests()
	for _, request := range []string{
		"GET /a HTTP/1.1\r\nHost: evil.example", "GET /a HTTP/1.1\r\nHost: api.hubapi.com", "GET /a HTTP/1.1\r\nHost: localhost.evil.example:8080",
		"GET /a HTTP/1.1\r\nHost: 127.0.0.1.evil.example", "GET /a HTTP/1.1\r\nHost: 10.0.0.1", "GET /a HTTP/1.1\r\nHost: 0.0.0.0:8080",
		"GET /a HTTP/1.1\r\nHost: [::]", "GET /a HTTP/1.1\r\nHost:", "GET /a HTTP/1.0",
		"GET http://evil.example/a HTTP/1.1\r\nHost: localhost",
	} {
		message := refusal(t, r.answerTo(request+"\r\n\r\n"), refused{403, "BROWSER_REFUSED"})
		if !strings.Contains(message, "http://localhost") {
			t.Errorf("%q: message %q", request, message)
		}
	}
	if n := r.hub.Requests() - before; n != 0 {
		t.Errorf("%d requests of deceived browsers reached HubSpot", n)
	}
}

func TestAProxyOnAllAddressesAnswersNobodyWithoutAKeyByAForeignName(t *testing.T) {
	keyed := startKeyed(t, func(o *proxy.Options) {
		o.Loopback, o.AllowAnonymous, o.DefaultPortal = false, true, portalID
		o.PortalDomain, o.AllowedHosts = "hubspot.example.com", []string{"hubspot.tools.svc.cluster.local"}
	})
	for _, host := range []string{
		"localhost", "127.0.0.1", "10.0.0.1:8080", "[2001:db8::1]", "proxy", "proxy:8080", "62515.hubspot.example.com", "hubspot.tools.svc.cluster.local", "Hubspot.Tools.SVC.cluster.local.:80", "62515.localhost",
	} {
		if echo := keyed.arrived("GET /a HTTP/1.1\r\nHost: " + host + "\r\n\r\n"); echo.Portal != portalID {
			t.Errorf("%s: portal %q", host, echo.Portal)
		}
	}
	before := keyed.hub.Requests()
	for _, request := range []string{
		"GET /a HTTP/1.1\r\nHost: evil.example", "GET /a HTTP/1.1\r\nHost: evil.example:8080", "POST /oauth/v1/token HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 0",
		"GET /a HTTP/1.1\r\nHost:", "GET /a HTTP/1.0", "GET http://evil.example/a HTTP/1.1\r\nHost: proxy", "GET /oauth/v1/a HTTP/1.1\r\nHost: a.b",
		"GET /a HTTP/1.1\r\nHost: hubspot.example.com", "GET /a HTTP/1.1\r\nHost: a.hubspot.tools.svc.cluster.local", "GET /a HTTP/1.1\r\nHost: evil.example\r\nAuthorization: Bearer " + unknownKey,
	} {
		message := refusal(t, keyed.answerTo(request+"\r\n\r\n"), refused{403, "BROWSER_REFUSED"})
		if !strings.Contains(message, "ALLOWED_HOSTS") {
			t.Errorf("%q: message %q", request, message)
		}
	}
	if n := keyed.hub.Requests() - before; n != 0 {
		t.Errorf("%d requests of deceived browsers reached HubSpot", n)
	}
	got := keyed.answerTo("GET /a HTTP/1.1\r\nHost: evil.example\r\nAuthorization: Bearer " + keyed.key["one"] + "\r\n\r\n")
	wantPortal(t, got, portalID)
}

func TestOnLoopbackNobodyIsLetInWithoutAKeyThroughAnotherProxy(t *testing.T) {
	c := startKeyed(t, anonymous)
	lines := []string{"Forwarded: for=1.2.3.4", "X-Forwarded-For: 127.0.0.1", "x-forwarded-proto: https", "X-Forwarded-Host:", "X_Forwarded_For: 1.2.3.4", "X-Real-IP: 1.2.3.4", "Via: 1.1 nginx", "Connection: Via\r\nVia: 1.1 a"}
	for _, line := range lines {
		for _, request := range []string{"GET /a", "GET /portals/62515/a", "POST /oauth/v1/token"} {
			message := refusal(t, c.ask(request, line, "Content-Length: 0"), unauthenticated)
			if !strings.Contains(message, "another proxy") || !strings.Contains(message, "Authorization: Bearer hap_") {
				t.Errorf("%s, %s: message %q", request, line, message)
			}
		}
	}
	c.wantNoRequests(t)
	elsewhere := startKeyed(t, anonymous, func(o *proxy.Options) { o.Loopback = false })
	for _, line := range lines {
		wantPortal(t, c.ask("GET /a", line, "Authorization: Bearer {one}"), portalID)
		wantPortal(t, elsewhere.ask("GET /a", line), staticPortal)
	}
}

func TestWhateverHostARequestNamesItGoesToHubSpot(t *testing.T) {
	c := startKeyed(t, func(o *proxy.Options) { o.Loopback = false })
	for _, request := range []string{
		"GET /a HTTP/1.1\r\nHost: proxy.internal", "GET /a HTTP/1.1\r\nHost: 169.254.169.254", "GET /a HTTP/1.0", "GET /a HTTP/1.1\r\nHost:",
		"GET http://169.254.169.254/a HTTP/1.1\r\nHost: proxy.internal", "GET https://u:p@evil.example:99/a HTTP/1.1\r\nHost: x", "GET ftp://evil/a HTTP/1.1\r\nHost: x",
		"GET http://evil.example/portals/62515/a HTTP/1.1\r\nHost: x",
	} {
		echo := c.arrived(request + "\r\nAuthorization: Bearer " + c.key["one"] + "\r\n\r\n")
		if echo.Portal != portalID || echo.Target != "/a" || "http://"+echo.Host != c.hub.URL {
			t.Errorf("%q came as %q of %q for portal %q", request, echo.Target, echo.Host, echo.Portal)
		}
	}
}
