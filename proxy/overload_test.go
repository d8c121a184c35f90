package proxy_test

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"hubspot-auth-proxy/proxy"
	"hubspot-auth-proxy/tokens/testkit"
)

// hang sends a request that HubSpot does not answer, and returns when it is under
// way; it ends when the connection is closed.
func (c keyedRig) hang(client, portal string) net.Conn {
	c.t.Helper()
	before := c.hub.Requests()
	conn := c.raw("GET /portals/" + portal + "/fake/hang HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + c.key[client] + "\r\n\r\n")
	testkit.Eventually(c.t, "the request reaches HubSpot", func() bool { return c.hub.Requests() > before })
	return conn
}

func TestBeyondTheLimitRequestsAreRefusedAndOneClientHasHalf(t *testing.T) {
	c := startKeyed(t, func(o *proxy.Options) { o.MaxRequests = 4 })
	call := func(client, portal string) received {
		t.Helper()
		return c.ask("GET /portals/"+portal+"/x", "Authorization: Bearer {"+client+"}")
	}
	refuses := func(what string, got received, words string) {
		t.Helper()
		if message := refusal(t, got, refused{503, "OVERLOADED"}); !strings.Contains(message, words) || got.Header.Get("Retry-After") != "1" {
			t.Errorf("%s: %q, %v", what, message, got.Header)
		}
	}
	first := c.hang("one", portalID)
	c.hang("one", portalID)
	before := c.hub.Requests()
	refuses("one client's third", call("one", portalID), "This client has 2 requests under way")
	if n := c.hub.Requests(); n != before {
		t.Errorf("%d requests reached HubSpot", n-before)
	}
	for range 5 { // what has ended counts no more
		if got := call("static", staticPortal); got.StatusCode != 200 {
			t.Fatalf("another client: %d %s", got.StatusCode, got.text)
		}
	}
	c.hang("static", staticPortal)
	c.hang("static", staticPortal)
	refuses("a third client's first", call("all", portalID), "This proxy has 4 requests under way, as many as MAX_REQUESTS allows")
	for what, want := range map[string]refused{"": unauthenticated, c.key["reader"]: {403, "CLIENT_FORBIDDEN"}} {
		// A client without rights gets that answer first.
		if got := c.ask("GET /portals/"+staticPortal+"/x", "Authorization: Bearer "+what); got.StatusCode != want.Status {
			t.Errorf("%d, want %v", got.StatusCode, want)
		}
	}
	_ = first.Close()
	testkit.Eventually(t, "a request that has ended does not count", func() bool { return call("one", portalID).StatusCode == 200 })
	if text := fmt.Sprint(c.logs); !strings.Contains(text, `"category":"OVERLOADED"`) {
		t.Errorf("the log does not tell: %s", text)
	}
}
