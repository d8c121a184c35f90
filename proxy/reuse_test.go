package proxy_test

import (
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"hubspot-auth-proxy/proxy"
	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspottest"
)

// leaving is an upstream that closes each connection after one answer, without
// having said so; closed gets a value for each.
func leaving(t *testing.T) (set func(*proxy.Options), closed chan struct{}) {
	t.Helper()
	closed = make(chan struct{}, 1)
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		conn, to, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		_, _ = io.WriteString(to, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine")
		_ = to.Flush()
		_ = conn.(*tls.Conn).NetConn().Close()
		closed <- struct{}{}
	}))
	t.Cleanup(server.Close)
	address, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	trust := server.Client().Transport.(*http.Transport).TLSClientConfig
	return func(o *proxy.Options) { o.Upstream, o.UpstreamTLS = address, trust }, closed
}

func TestAConnectionThatHubSpotHasClosedIsNotUsed(t *testing.T) {
	set, closed := leaving(t)
	r := start(t, setup{proxy: set})
	r.connect(portalID)
	for i := range 20 {
		if answer := r.call("POST", "/a", strings.NewReader("body")); answer.StatusCode != http.StatusOK {
			t.Fatalf("request %d: status %d %s", i, answer.StatusCode, answer.body)
		}
		<-closed
	}
}

// With a GET there is no harm in a second time; a third one is not tried.
func TestAGetOnADyingConnectionIsSentOnceMore(t *testing.T) {
	for method, want := range map[string]int64{"GET": 2, "HEAD": 2, "DELETE": 1} {
		set, seen := dying(t, true)
		r := start(t, setup{proxy: set})
		r.seed(portalID, tokens.AccessToken, hubspottest.Canary+"-static")
		together(t, 8, 8, func(int) error { // for several connections to be there
			_, err := r.exchange(r.request("GET", "/first", nil))
			return err
		})
		if answer := r.call(method, "/crm", nil); answer.StatusCode != http.StatusBadGateway {
			t.Errorf("%s: status %d", method, answer.StatusCode)
		}
		if n := seen.Load(); n != want {
			t.Errorf("HubSpot has received the %s %d times", method, n)
		}
	}
}

func TestWithoutHTTP2AtHubSpotItIsHTTP1(t *testing.T) {
	hub := hubspottest.NewTLSServer(false)
	t.Cleanup(hub.Close)
	r := start(t, setup{hub: hub, proxy: func(o *proxy.Options) { o.UpstreamHTTP2 = true }})
	r.connect(portalID)
	for range 3 {
		r.call("POST", "/crm", strings.NewReader("body")).want(t, 200, "1")
	}
	if n := strings.Count(r.logs.String(), "HubSpot does not accept HTTP/2"); n != 1 {
		t.Errorf("logged %d times", n)
	}
}

// On a connection whose earlier request had to be answered in time, a later one
// may take its time for its own body, and for the answer's.
func TestTheTimeoutOfAnEarlierRequestDoesNotCount(t *testing.T) {
	t.Parallel()
	const timeout = 400 * time.Millisecond
	r := start(t, setup{hub: tlsHub(t), proxy: func(o *proxy.Options) { o.UpstreamTimeout = timeout }})
	r.connect(portalID)
	for range 2 {
		r.call("GET", "/crm", nil).want(t, 200, "1")
		body, answers := r.slowly("/crm", -1)
		over := time.After(2 * timeout)
		_, _ = body.Write([]byte("a"))
		<-over
		_, _ = body.Write([]byte("b"))
		_ = body.Close()
		if err := (<-answers).arrived([]byte("ab")); err != nil {
			t.Error(err)
		}
		over = time.After(2 * timeout)
		go func() {
			<-over
			r.hub.NextEvent()
		}()
		if answer := r.call("GET", "/fake/events?n=2", nil); answer.StatusCode != http.StatusOK || !strings.Contains(string(answer.body), "data") {
			t.Errorf("status %d %q", answer.StatusCode, answer.body)
		}
	}
}

func TestAConnectionIsUsedAgainHoweverLongAgoItsLastAnswerWasDue(t *testing.T) {
	t.Parallel()
	const timeout = 300 * time.Millisecond
	set, connections := upstream(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "fine") })
	r := start(t, setup{proxy: func(o *proxy.Options) { set(o); o.UpstreamTimeout = timeout }})
	r.connect(portalID)
	for range 3 {
		r.call("GET", "/crm", nil)
		<-time.After(2 * timeout)
	}
	if n := connections.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}
