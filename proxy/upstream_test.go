package proxy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"hubspot-auth-proxy/proxy"
	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/testkit"
)

// refusedWith fails the test unless the proxy itself has answered so.
func (a reply) refusedWith(t testing.TB, r *rig, status int, category string) {
	t.Helper()
	if a.StatusCode != status || a.Header.Get("X-Hubspot-Auth-Proxy-Error") != category {
		t.Errorf("status %d, category %q, want %d, %s: %.300s", a.StatusCode,
			a.Header.Get("X-Hubspot-Auth-Proxy-Error"), status, category, a.body)
	}
	noSecret(t, "the answer", string(a.body)+fmt.Sprint(a.Header))
	noSecret(t, "the log", r.logs.String())
}

func TestAFailureOfTheConnectionIs502(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := listener.Addr().String()
	_ = listener.Close()
	untrusted := hubspottest.NewTLSServer(false)
	t.Cleanup(untrusted.Close)
	const unsent, maybeSent = "can be sent again", "may have received"
	upstreams := []struct {
		name, path string
		address    string // empty: the fake HubSpot
		tls        *tls.Config
		says       string
	}{
		{"connection refused", "/", "http://" + closed, nil, unsent},
		{"reset before the answer", "/fake/reset", "", nil, maybeSent},
		{"not HTTP", "/fake/malformed", "", nil, maybeSent},
		{"an untrusted certificate", "/", untrusted.URL, &tls.Config{MinVersion: tls.VersionTLS12}, unsent},
	}
	for _, u := range upstreams {
		for _, kind := range []tokens.Kind{tokens.AccessToken, tokens.APIKey} {
			t.Run(u.name+" "+string(kind), func(t *testing.T) {
				r := start(t, setup{proxy: func(o *proxy.Options) {
					o.UpstreamHTTP2 = kind == tokens.APIKey // the other transport
					if u.address != "" {
						o.Upstream, _ = url.Parse(u.address)
						o.UpstreamTLS = u.tls
					}
				}})
				r.replaceStatic(kind, hubspottest.Canary+"-static")
				r.call("GET", u.path, nil).refusedWith(t, r, 502, "UPSTREAM_UNREACHABLE")
				posted := r.call("POST", u.path, strings.NewReader("body"))
				posted.refusedWith(t, r, 502, "UPSTREAM_UNREACHABLE")
				if !strings.Contains(string(posted.body), u.says) {
					t.Errorf("%s, want %q", posted.body, u.says)
				}
			})
		}
	}
}

func TestNoHeaderInTimeIs504(t *testing.T) {
	t.Parallel()
	for _, h := range hubs {
		t.Run(h.name, func(t *testing.T) {
			hub := h.start()
			t.Cleanup(hub.Close)
			r := start(t, setup{hub: hub, proxy: func(o *proxy.Options) {
				o.UpstreamTimeout, o.UpstreamHTTP2 = 200*time.Millisecond, h.http2
			}})
			r.connect(portalID)
			r.call("GET", "/fake/hang", nil).refusedWith(t, r, 504, "UPSTREAM_TIMEOUT")
			r.call("POST", "/fake/hang", strings.NewReader("body")).refusedWith(t, r, 504, "UPSTREAM_TIMEOUT")
		})
	}
}

func TestTheTimeoutDoesNotCountWhileTheBodyIsSent(t *testing.T) {
	t.Parallel()
	const timeout = 500 * time.Millisecond
	overEachHub(t, 1<<20, func(t *testing.T, r *rig, _ string) {
		other := start(t, setup{hub: r.hub, proxy: func(o *proxy.Options) {
			o.UpstreamTimeout, o.UpstreamHTTP2 = timeout, strings.HasSuffix(t.Name(), "HTTP2")
		}})
		other.connect(portalID)
		body, answers := other.slowly("/crm", -1)
		began := time.Now()
		ticker := time.NewTicker(20 * time.Millisecond)
		defer ticker.Stop()
		sent := 0
		for time.Since(began) < 3*timeout {
			<-ticker.C
			n, _ := body.Write([]byte("a"))
			sent += n
		}
		_ = body.Close()
		if err := (<-answers).arrived(bytes.Repeat([]byte("a"), sent)); err != nil {
			t.Error(err)
		}
	})
}

func TestAClientThatLeavesIsLoggedAs499AndAnsweredNothing(t *testing.T) {
	for _, body := range []string{"", "a body"} {
		r := start(t, setup{})
		r.connect(portalID)
		ctx, leave := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			_, err := r.exchange(r.request("POST", "/fake/hang", strings.NewReader(body)).WithContext(ctx))
			done <- err
		}()
		within(t, r.hub, func() bool { return r.hub.Requests() == 1 })
		leave()
		if err := <-done; err == nil {
			t.Error("an answer came")
		}
		within(t, r.hub, func() bool { return r.hub.Cancelled() == 1 })
		testkit.Eventually(t, "the end in the log", func() bool { return strings.Contains(r.logs.String(), `"status":499`) })
		if strings.Contains(r.logs.String(), "UPSTREAM_UNREACHABLE") {
			t.Error("the client's leaving is logged as HubSpot's failure")
		}
	}
}

// troubles are what may be wrong with the token endpoint for a while.
var troubles = map[string]hubspottest.TokenBehaviour{
	"429":      {Status: 429, RetryAfter: "1"},
	"500":      {Status: 500},
	"nonsense": {Status: 200, Body: "<html>nonsense</html>"},
	"empty":    {EmptyAccessToken: true},
	"reset":    {Reset: true},
	"hang":     {Hang: true},
}

// The old token serves while it lives; then the answer says when to try again; and
// all is well as soon as the token endpoint is.
func TestTroubleOfTheTokenEndpointPasses(t *testing.T) {
	for name, trouble := range troubles {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, c := startOAuth(t, setup{source: func(o *tokens.Options) {
				o.App.Client.Timeout = 300 * time.Millisecond
			}})
			r.hub.SetToken(trouble)
			c.forward(27 * time.Minute) // it is to be renewed
			testkit.Eventually(t, "a renewal", func() bool {
				r.call("GET", "/crm", nil).want(t, 200, "1")
				return r.hub.TokenCalls(portalID) >= 2
			})
			r.call("GET", "/crm", nil).want(t, 200, "1")
			r.hub.Expire(portalID)
			c.forward(5 * time.Minute)
			answer := r.call("GET", "/crm", nil)
			answer.refusedWith(t, r, 503, "CREDENTIAL_UNAVAILABLE")
			if s, err := strconv.Atoi(answer.Header.Get("Retry-After")); err != nil || s < 1 || s > 60 {
				t.Errorf("Retry-After is %q", answer.Header.Get("Retry-After"))
			}
			r.hub.SetToken(hubspottest.TokenBehaviour{})
			testkit.Eventually(t, "the recovery", func() bool {
				c.forward(time.Second)
				return r.call("GET", "/crm", nil).StatusCode == http.StatusOK
			})
		})
	}
}

func TestAnEndedGrantIs403AndIsTriedAgainOnlyWhenItsTimeHasCome(t *testing.T) {
	for _, code := range []string{"BAD_REFRESH_TOKEN", "BAD_HUB"} {
		r, c := startOAuth(t, setup{})
		r.hub.SetToken(hubspottest.TokenBehaviour{Code: code})
		r.hub.Expire(portalID)
		c.forward(31 * time.Minute)
		for range 20 {
			r.call("GET", "/crm", nil).refusedWith(t, r, 403, "PORTAL_REAUTHORIZATION_REQUIRED")
		}
		if calls := r.hub.TokenCalls(portalID); calls != 2 {
			t.Errorf("%s: %d calls of the token endpoint", code, calls)
		}
		c.forward(time.Hour)
		for range 20 {
			r.call("GET", "/crm", nil).refusedWith(t, r, 403, "PORTAL_REAUTHORIZATION_REQUIRED")
		}
		if calls := r.hub.TokenCalls(portalID); calls != 3 {
			t.Errorf("%s, an hour later: %d calls of the token endpoint", code, calls)
		}
		r.hub.SetToken(hubspottest.TokenBehaviour{})
		r.connect(portalID)
		testkit.Eventually(t, "the new grant", func() bool { return r.call("GET", "/crm", nil).StatusCode == http.StatusOK })
	}
}

func TestFiftyClientsNeedFiftyConnections(t *testing.T) {
	set, connections := upstream(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "fine") })
	r := start(t, setup{proxy: set})
	r.connect(portalID)
	together(t, volume(2000, 600), 50, func(int) error {
		answer, err := r.exchange(r.request("GET", "/", nil))
		if err == nil && answer.StatusCode != http.StatusOK {
			err = fmt.Errorf("status %d", answer.StatusCode)
		}
		return err
	})
	if n := connections.Load(); n > 60 {
		t.Errorf("%d connections", n)
	}
}
