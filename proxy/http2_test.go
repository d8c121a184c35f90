package proxy_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hubspot-auth-proxy/tokens/hubspottest"
)

// overHTTP2 returns a server that serves the proxy by HTTP/2, as it does where
// it has a certificate.
func (r *rig) overHTTP2() *httptest.Server {
	server := httptest.NewUnstartedServer(r.proxy)
	server.Config = r.proxy.Server()
	server.EnableHTTP2 = true
	server.StartTLS()
	r.t.Cleanup(server.Close)
	return server
}

// HTTP/2 has no request line, and no line breaks that end a header.
func TestNothingOfHTTP2BecomesMoreThanItWasInHTTP1(t *testing.T) {
	r := startKinds(t, setup{})
	server := r.overHTTP2()
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
		patience := 10 * time.Second
		if want == "no answer" {
			patience = 200 * time.Millisecond // the client tries a reset stream again and again
		} else if strings.HasPrefix(want, "62") {
			through++
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		request := &http.Request{Method: "GET", URL: &url.URL{Scheme: "https", Host: server.Listener.Addr().String(), Opaque: target}, Header: http.Header{}}
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
