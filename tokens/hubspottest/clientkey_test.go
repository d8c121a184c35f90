package hubspottest_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"hubspot-auth-proxy/tokens/hubspottest"
)

const clientKey = "hap_0123456789012345678901234567890123456789012"

func TestAClientKeyAnywhereInARequestFailsTheTest(t *testing.T) {
	for name, ask := range map[string]func(*http.Request){
		"path": func(r *http.Request) { r.URL.Path = "/a/" + clientKey },
		"encoded": func(r *http.Request) {
			r.URL.Opaque = r.URL.Host + "/%68ap_" + clientKey[4:]
			r.URL.Opaque = "/%68ap_" + clientKey[4:]
		},
		"query":  func(r *http.Request) { r.URL.RawQuery = "a=" + clientKey },
		"header": func(r *http.Request) { r.Header.Set("X-Any", "a "+clientKey) },
		"bearer": func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+clientKey) },
		"body": func(r *http.Request) {
			r.Body = io.NopCloser(strings.NewReader(strings.Repeat("x", 100_000) + clientKey + "x"))
		},
		"two reads": func(r *http.Request) {
			r.Body = io.NopCloser(io.MultiReader(strings.NewReader(clientKey[:20]), strings.NewReader(clientKey[20:])))
		},
		"trailer": func(r *http.Request) {
			r.Body, r.Trailer = io.NopCloser(strings.NewReader("a")), http.Header{"X-Any": {clientKey}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := closing(t, ask, false); !strings.Contains(got, "1 requests with a client key arrived") || strings.Contains(got, clientKey) {
				t.Errorf("Close panics with %q", got)
			}
			if got := closing(t, ask, true); got != "" {
				t.Errorf("allowed, Close panics with %q", got)
			}
		})
	}
	if got := closing(t, func(r *http.Request) { r.URL.Path, r.Body = "/hap_", io.NopCloser(strings.NewReader("hap_ chat_app_")) }, false); got != "" {
		t.Errorf("without a key, Close panics with %q", got)
	}
}

// closing sends a request to a server of its own, and returns what the server's
// Close panics with.
func closing(t *testing.T, ask func(*http.Request), allowed bool) (panicked string) {
	t.Helper()
	hub := hubspottest.NewServer()
	hub.SetAccessToken("1", "pat-x")
	if allowed {
		hub.AllowClientKeys()
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, hub.URL+"/a", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer pat-x")
	ask(request)
	request.ContentLength = -1
	if request.Body == nil {
		request.ContentLength = 0
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, response.Body)
	_ = response.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	defer func() {
		if p := recover(); p != nil {
			panicked = fmt.Sprint(p)
		}
	}()
	hub.Close()
	return ""
}
