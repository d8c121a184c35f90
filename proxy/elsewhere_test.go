package proxy_test

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"hubspot-auth-proxy/proxy"
	"hubspot-auth-proxy/tokens/testkit"
)

// decoy listens where nobody may be led to, as the admin listener does, and
// counts who comes.
func decoy(t *testing.T) (address string, visits *atomic.Int64) {
	t.Helper()
	visits = new(atomic.Int64)
	return testkit.Serve(t, func(net.Conn) { visits.Add(1) }), visits
}

func TestNoRequestLeadsElsewhereThanToHubSpot(t *testing.T) {
	r := startKinds(t, setup{proxy: func(o *proxy.Options) { o.Loopback = false }})
	address, visits := decoy(t)
	_, port, _ := net.SplitHostPort(address)
	for _, request := range []string{
		"GET http://{}/a HTTP/1.1",
		"GET http://{}/portals/62515/metrics HTTP/1.1",
		"GET //{}/a HTTP/1.1",
		"GET ///{}/a HTTP/1.1",
		"GET //{}/a|b HTTP/1.1",
		"GET /portals/62515//{}/a HTTP/1.1",
		"GET /portals/62515//{}/a|b HTTP/1.1",
		"GET /portals/62515@{}/a HTTP/1.1",
		"GET /portals/62515/@{}/a HTTP/1.1",
		"GET /@{}/a HTTP/1.1",
		"GET /:80@{}/a HTTP/1.1",
		"GET /\\\\{}/a HTTP/1.1",
		"GET /http://{}/a HTTP/1.1",
		"GET /portals/62515/http://{}/a HTTP/1.1",
		"GET http://user:password@{}/a HTTP/1.1",
		"GET http://localhost@{}/a HTTP/1.1",
		"GET http://localhost#@{}/a HTTP/1.1",
		"GET http://{}?/a HTTP/1.1",
		"GET https://{}/a HTTP/1.1",
		"GET ws://{}/a HTTP/1.1",
		"GET file://{}/etc/passwd HTTP/1.1",
		"GET /?url=http://{}/ HTTP/1.1",
		"GET /fake/redirect?to=http://{}/a HTTP/1.1",
		"GET /fake/redirect?to=//{}/a HTTP/1.1",
		"POST /fake/redirect?to=http://{}/a HTTP/1.1",
		"CONNECT {} HTTP/1.1",
		"CONNECT http://{} HTTP/1.1",
		"GET {} HTTP/1.1",
		"OPTIONS http://{} HTTP/1.1",
		"OPTIONS * HTTP/1.1",
		"TRACE http://{}/ HTTP/1.1",
		"PRI * HTTP/2.0",
		"GET /metrics HTTP/1.1",
		"GET /healthz HTTP/1.1",
		"GET /callback?state=x HTTP/1.1",
	} {
		for _, lines := range []string{
			"Host: {}",
			"Host: localhost:" + port + "\r\nX-Forwarded-Host: {}\r\nX-Forwarded-For: 127.0.0.1\r\nX-Original-URL: http://{}/\r\nX-Rewrite-URL: //{}/",
			"Host: {}\r\nProxy: http://{}\r\nHTTP_PROXY: http://{}\r\nProxy-Connection: keep-alive\r\nForwarded: host={};for=127.0.0.1",
			"Host: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
			"Host: user@{}\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA",
		} {
			text := strings.ReplaceAll(request+"\r\n"+lines+"\r\nContent-Length: 0\r\nX-HubSpot-Portal-Id: 62515\r\n\r\n", "{}", address)
			got := r.answerTo(text)
			if got.StatusCode == http.StatusSwitchingProtocols || got.Header.Get("Location") != "" && !strings.Contains(request, "/fake/redirect") {
				t.Errorf("%q was answered %d %v", text, got.StatusCode, got.Header)
			}
			if strings.Contains(got.text, "go_goroutines") || strings.Contains(got.text, `"status":"ok"`) {
				t.Errorf("%q was answered by an operator's page: %.200q", text, got.text)
			}
		}
	}
	if n := visits.Load(); n != 0 {
		t.Errorf("%d connections went elsewhere", n)
	}
	if r.hub.Requests() == 0 {
		t.Error("nothing reached HubSpot: that shows little")
	}
}

// What HubSpot answers leads the proxy nowhere either.
func TestNoAnswerLeadsElsewhereThanToHubSpot(t *testing.T) {
	address, visits := decoy(t)
	for _, answer := range []string{
		"HTTP/1.1 301 Moved Permanently\r\nLocation: http://{}/a\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 307 Temporary Redirect\r\nLocation: http://{}/a\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 308 Permanent Redirect\r\nLocation: //{}/a\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 305 Use Proxy\r\nLocation: http://{}/\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 300 Multiple Choices\r\nLocation: http://{}/\r\nAlternates: {\"http://{}/\" 1}\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nAlt-Svc: h2=\"{}\", http/1.1=\"{}\"; persist=1\r\nRefresh: 0; url=http://{}/\r\nContent-Location: http://{}/\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 103 Early Hints\r\nLink: <http://{}/>; rel=preconnect\r\n\r\nHTTP/1.1 204 No Content\r\nLocation: http://{}/\r\n\r\n",
		"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\nLocation: http://{}/\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 421 Misdirected Request\r\nLocation: http://{}/\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
	} {
		upstream := script(t, strings.ReplaceAll(answer, "{}", address))
		r := start(t, setup{proxy: upstream.set})
		r.connect(portalID)
		for range 2 {
			got := r.answerTo(head())
			if line := upstream.request(t); !strings.HasPrefix(line, "GET /a HTTP/1.1\r\n") {
				t.Errorf("HubSpot got %q", line)
			}
			if got.StatusCode == http.StatusSwitchingProtocols {
				t.Errorf("%q: another protocol was switched to", answer)
			}
			if want := fmt.Sprint(" ", got.StatusCode, " "); !strings.Contains(answer, want) && got.StatusCode != http.StatusBadGateway {
				t.Errorf("%q was answered %d", answer, got.StatusCode)
			}
		}
		if rest := len(upstream.sent); rest != 0 {
			t.Errorf("%q: %d more requests", answer, rest)
		}
	}
	if n := visits.Load(); n != 0 {
		t.Errorf("%d connections went elsewhere", n)
	}
}
