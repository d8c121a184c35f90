package proxy_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hubspot-auth-proxy/proxy"
	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspottest"
)

// reply is an answer that was read to its end.
type reply struct {
	*http.Response
	body     []byte
	attempts string // how often the request was sent to HubSpot
}

// exchange sends a request, with the debug header, and reads the whole answer.
func (r *rig) exchange(request *http.Request) (reply, error) {
	request.Header.Set("X-Hubspot-Auth-Proxy-Debug", "1")
	response, err := r.client.Do(request)
	if err != nil {
		return reply{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return reply{}, fmt.Errorf("read the answer: %w", err)
	}
	return reply{response, body, response.Header.Get("X-Hubspot-Auth-Proxy-Attempts")}, nil
}

// request makes a request to the proxy. Headers are given as name, value, …
func (r *rig) request(method, path string, body io.Reader, header ...string) *http.Request {
	request, err := http.NewRequestWithContext(r.t.Context(), method, r.url(path), body)
	if err != nil {
		panic(err) // for it is the test's own
	}
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	return request
}

// call is exchange for requests that must be answered.
func (r *rig) call(method, path string, body io.Reader, header ...string) reply {
	r.t.Helper()
	answer, err := r.exchange(r.request(method, path, body, header...))
	if err != nil {
		r.t.Fatal(err)
	}
	return answer
}

// want fails the test unless the answer has that status and took that many
// attempts.
func (a reply) want(t testing.TB, status int, attempts string) {
	t.Helper()
	if a.StatusCode != status || a.attempts != attempts {
		t.Errorf("status %d after %s attempts, want %d after %s: %.300s", a.StatusCode, a.attempts, status, attempts, a.body)
	}
}

// volume is the number of repetitions of a test: n, or raced with the race detector, which is
// slow and finds a race in few repetitions.
func volume(n, raced int) int {
	if raceDetector {
		return raced
	}
	return n
}

// together does something n times, some of that at once, and reports all
// errors but fails the test with the first few only.
func together(t testing.TB, n, workers int, do func(i int) error) {
	t.Helper()
	var next, failed atomic.Int64
	var work sync.WaitGroup
	for range workers {
		work.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				if err := do(int(i)); err != nil && failed.Add(1) <= 5 {
					t.Errorf("request %d: %v", i, err)
				}
			}
		})
	}
	work.Wait()
	if f := failed.Load(); f > 0 {
		t.Errorf("%d of %d failed", f, n)
	}
}

// clock is a clock that runs, and can be put forward.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time          { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) forward(d time.Duration) { c.ahead.Add(int64(d)) }

// startOAuth starts a rig with one portal that has served already, and a clock
// of its own, put forward so far that the token may be renewed for any reason.
func startOAuth(t testing.TB, s setup) (*rig, *clock) {
	t.Helper()
	c := new(clock)
	set := s.source
	s.source = func(o *tokens.Options) {
		o.Now = c.now
		if set != nil {
			set(o)
		}
	}
	r := start(t, s)
	r.connect(portalID)
	r.call("GET", "/", nil).want(t, 200, "1")
	c.forward(31 * time.Second)
	return r, c
}

// upstream starts an API of the test's own in the place of the fake HubSpot's,
// which counts the connections to it.
func upstream(t testing.TB, handler http.HandlerFunc) (setProxy func(*proxy.Options), connections *atomic.Int64) {
	t.Helper()
	connections = new(atomic.Int64)
	server := httptest.NewUnstartedServer(handler)
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	address, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	return func(o *proxy.Options) { o.Upstream = address }, connections
}

// within waits until the fake HubSpot has seen something.
func within(t testing.TB, hub *hubspottest.Server, condition func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := hub.Until(ctx, condition); err != nil {
		t.Fatal(err)
	}
}
