package proxy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hubspot-auth-proxy/proxy"
	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspottest"
)

// overHTTP2 returns a server that serves the proxy, and whose client speaks HTTP/2
// only: over TLS or, with prior knowledge, without.
func (r *rig) overHTTP2(secured bool) *httptest.Server {
	server := httptest.NewUnstartedServer(r.proxy)
	server.Config = r.proxy.Server()
	r.t.Cleanup(server.Close)
	if secured {
		server.EnableHTTP2 = true
		server.StartTLS()
		return server
	}
	server.Start()
	transport := &http.Transport{Protocols: new(http.Protocols), DisableCompression: true}
	transport.Protocols.SetUnencryptedHTTP2(true)
	r.t.Cleanup(transport.CloseIdleConnections)
	server.Client().Transport = transport
	return server
}

// eachHTTP2 runs a test over TLS and without.
func eachHTTP2(t *testing.T, test func(t *testing.T, secured bool)) {
	t.Run("TLS", func(t *testing.T) { test(t, true) })
	t.Run("prior knowledge", func(t *testing.T) { test(t, false) })
}

// HTTP/2 has no request line, and no line breaks that end a header.
func TestNothingOfHTTP2BecomesMoreThanItWasInHTTP1(t *testing.T) {
	t.Parallel()
	eachHTTP2(t, nothingOfHTTP2BecomesMore)
}

func nothingOfHTTP2BecomesMore(t *testing.T, secured bool) {
	r := startKinds(t, setup{})
	server := r.overHTTP2(secured)
	scheme, _, _ := strings.Cut(server.URL, ":")
	through := 0
	for target, want := range map[string]string{
		"/a?b":                       portalID + " /a?b",
		"/portals/62516/a%20b":       staticPortal + " /a%20b",
		"/a b":                       "REQUEST_INVALID",
		"/a HTTP/1.1":                "REQUEST_INVALID",
		"/a?b c":                     "REQUEST_INVALID",
		"/portals/62516 /a":          "REQUEST_INVALID",
		"/portals/62515/a b/../":     "REQUEST_INVALID",
		"/a\tb":                      "no answer",
		"/a\r\nAuthorization: x":     "no answer",
		"/a\nX-HubSpot-Portal-Id: 1": "no answer",
		"/a\x00":                     "no answer",
		"/a\x7f":                     "no answer",
		"//evil.example/a":           portalID + " //evil.example/a",
		"/a@evil.example":            portalID + " /a@evil.example",
	} {
		timeout := 10 * time.Second
		if want == "no answer" {
			timeout = 100 * time.Millisecond // the client tries a reset stream again and again
		} else if strings.HasPrefix(want, "62") {
			through++
		}
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		request := &http.Request{Method: "GET", URL: &url.URL{Scheme: scheme, Host: server.Listener.Addr().String(), Opaque: target}, Header: http.Header{}}
		if strings.HasPrefix(target, "//") {
			request.URL.Opaque, request.URL.Path = "", target
		}
		got := "no answer"
		response, err := server.Client().Do(request.WithContext(ctx))
		if err == nil {
			text, _ := io.ReadAll(response.Body)
			_ = response.Body.Close()
			got = response.Header.Get("X-Hubspot-Auth-Proxy-Error")
			if echo, err := hubspottest.DecodeEcho(strings.NewReader(string(text))); err == nil && echo.Method != "" {
				got = echo.Portal + " " + echo.Target
			}
		}
		cancel()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", target, diff)
		}
	}
	if n := r.hub.Requests(); n != through {
		t.Errorf("%d requests reached HubSpot, want %d", n, through)
	}
}

// A client of HTTP/2 need not be one of net/http: what that would never send is
// sent by hand.
func TestEveryHTTP2RequestIsReadInOneWayOnly(t *testing.T) {
	eachHTTP2(t, everyHTTP2RequestIsReadInOneWay)
}

func everyHTTP2RequestIsReadInOneWay(t *testing.T, secured bool) {
	upstream := startStrict(t)
	r := start(t, setup{proxy: func(o *proxy.Options) { o.Upstream, o.DefaultPortal = upstream.url, staticPortal }})
	r.seed(staticPortal, tokens.AccessToken, staticToken)
	server := r.overHTTP2(secured)
	through := 0
	for name, test := range map[string]struct {
		method    string
		fields    [][2]string
		forwarded bool
	}{
		"nothing else":                    {"GET", nil, true},
		"a method of its own":             {"M-SEARCH", nil, true},
		"a method with a target":          {"GET /b", nil, false},
		"a method with a request line":    {"DELETE /b HTTP/1.1", nil, false},
		"a method with a colon":           {"X:", nil, false},
		"a method with a tab":             {"GET\t/b", nil, false},
		"host":                            {"GET", [][2]string{{"host", "evil.example"}}, true},
		"a length of no body":             {"GET", [][2]string{{"content-length", "5"}}, true},
		"a length that is none":           {"POST", [][2]string{{"content-length", "0x5"}}, false},
		"an expectation":                  {"POST", [][2]string{{"expect", "100-continue"}}, true},
		"trailers that are announced":     {"GET", [][2]string{{"trailer", "x-a, host"}}, true},
		"a credential, twice":             {"GET", [][2]string{{"authorization", "Bearer a"}, {"authorization", "Bearer b"}}, true},
		"cookies apart":                   {"GET", [][2]string{{"cookie", "a=b"}, {"cookie", "c=d"}}, true},
		"a name of all that one may have": {"GET", [][2]string{{"!#$%&'*+-.^_`|~9a", "b"}}, true},
	} {
		if test.forwarded {
			through++
		}
		askOverHTTP2(t, server, append([][2]string{{":method", test.method}, {":scheme", "https"}, {":authority", "localhost"}, {":path", "/a"}}, test.fields...))
		upstream.mu.Lock()
		if upstream.requests != through || len(upstream.faults) > 0 {
			t.Errorf("%s: %d requests, want %d; %q", name, upstream.requests, through, upstream.faults)
		}
		through, upstream.faults = upstream.requests, nil
		upstream.mu.Unlock()
	}
}

// askOverHTTP2 sends a request of these fields and no body, and waits until it
// is answered, or refused.
func askOverHTTP2(t *testing.T, server *httptest.Server, fields [][2]string) {
	t.Helper()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if server.TLS != nil {
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	var block bytes.Buffer
	for _, field := range fields {
		block.WriteByte(0) // literal, of a name that is literal too, and not indexed (RFC 7541 section 6.2.2)
		for _, text := range field {
			block.WriteByte(byte(len(text))) // below 127
			block.WriteString(text)
		}
	}
	const settings, headers, reset, goAway = 4, 1, 3, 7 // frames (RFC 9113 section 6)
	const endsStreamAndHeaders = 5
	_, _ = io.WriteString(conn, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	_, _ = conn.Write([]byte{0, 0, 0, settings, 0, 0, 0, 0, 0})
	_, _ = conn.Write(append([]byte{0, 0, byte(block.Len()), headers, endsStreamAndHeaders, 0, 0, 0, 1}, block.Bytes()...))
	for {
		var frame [9]byte
		if _, err := io.ReadFull(conn, frame[:]); err != nil {
			t.Fatalf("%q is not answered: %v", fields, err)
		}
		switch frame[3] {
		case headers, reset, goAway:
			return
		}
		length := int64(frame[0])<<16 | int64(frame[1])<<8 | int64(frame[2])
		if _, err := io.CopyN(io.Discard, conn, length); err != nil {
			t.Fatal(err)
		}
	}
}

func TestASecondAttemptOverHTTP2DoesNotWaitForTheClientsBody(t *testing.T) {
	t.Parallel()
	var attempts atomic.Int64
	set := byHTTP2(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadFull(r.Body, make([]byte, 3))
		if attempts.Add(1) == 1 {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, `{"category":"EXPIRED_AUTHENTICATION"}`)
		}
	})
	r := startKinds(t, setup{proxy: set})
	got := r.answerTo("POST /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nabc")
	if got.StatusCode != http.StatusOK || got.err != nil || attempts.Load() != 2 {
		t.Errorf("%d %q, %v, after %d attempts", got.StatusCode, got.text, got.err, attempts.Load())
	}
}
