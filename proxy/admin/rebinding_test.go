package admin_test

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"hubspot-auth-proxy/proxy"
	"hubspot-auth-proxy/proxy/admin"
	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/secret"
)

// evil is the host name of a page. When the page is loaded, its owner resolves the name to another
// address (DNS rebinding).
const evil = "evil.example"

// rebound loads a page of evil in the browser, and then serves the page's own address with the
// handler, which is the same server for the browser. It returns what the page reads from a path.
func rebound(c *chrome, handler http.Handler, path string) (status int64, text string) {
	c.Helper()
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.Header().Set("Connection", "close")
		_, _ = io.WriteString(w, "<title>a harmless page</title>")
	}))
	address := page.Listener.Addr().String()
	_, port, _ := net.SplitHostPort(address)
	c.open("http://" + evil + ":" + port + "/")
	if title := evaluate[string](c, "document.title"); title != "a harmless page" {
		c.Fatalf("the page is %q", title)
	}
	page.Close()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		c.Fatal(err)
	}
	server := &http.Server{Handler: handler}
	go func() { _ = server.Serve(listener) }()
	defer server.Close()
	c.do(evaluating("window.x = new XMLHttpRequest(); x.open('GET', '" + path + "', false); x.send()"))
	return evaluate[int64](c, "x.status"), evaluate[string](c, "x.responseText")
}

// The proxy listens as it does in a container: on all addresses.
func TestARebindingPageReadsNothingFromTheProxy(t *testing.T) {
	c, hub := newChrome(t, evil), hubspottest.NewServer()
	t.Cleanup(hub.Close)
	upstream, _ := url.Parse(hub.URL)
	hub.SetAccessToken(portal, hubspottest.Canary)
	for _, loopback := range []bool{false, true} {
		p := proxy.New(proxy.Options{Credentials: onlyCredential{tokens.Static(portal, tokens.AccessToken, secret.New(hubspottest.Canary))},
			Upstream: upstream, DefaultPortal: portal, AllowAnonymous: true, Loopback: loopback})
		seen := make(http.Header)
		status, text := rebound(c, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			seen = r.Header.Clone()
			p.ServeHTTP(w, r)
		}), "/crm/v3/objects/contacts")
		if status != http.StatusForbidden || !strings.Contains(text, "BROWSER_REFUSED") || hub.Requests() != 0 {
			t.Errorf("loopback %t: the page reads %d %s", loopback, status, text)
		}
		if seen.Get("User-Agent") == "" || seen.Get("Origin") != "" || seen.Get("Sec-Fetch-Site") != "" {
			t.Errorf("the browser sent %v: another check would have refused it", seen)
		}
		p.Close()
	}
}

func TestARebindingPageReadsNothingFromTheAdminListener(t *testing.T) {
	c := newChrome(t, evil)
	a := admin.New(admin.Options{Loopback: true, RedisAnswers: func() bool { return true }})
	t.Cleanup(a.Close)
	for _, path := range []string{"/", "/healthz", "/connect"} {
		if status, text := rebound(c, a, path); status != http.StatusForbidden || !strings.Contains(text, "localhost") {
			t.Errorf("of %s the page reads %d %s", path, status, text)
		}
	}
}
