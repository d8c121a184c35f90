package proxy_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"hubspot-auth-proxy/proxy"
	"hubspot-auth-proxy/tokens/testkit"
)

// stopping are upstreams that read the beginning of a body and no more, until
// release is closed.
var stopping = map[string]func(t *testing.T, release chan struct{}) func(*proxy.Options){
	"http": func(t *testing.T, release chan struct{}) func(*proxy.Options) {
		set, _ := byHand(t, func(_ int64, conn net.Conn, from *bufio.Reader) { stopReading(from, release) })
		return set
	},
	"https": func(t *testing.T, release chan struct{}) func(*proxy.Options) {
		return byHandTLS(t, func(_ *tls.Conn, from *bufio.Reader) { stopReading(from, release) })
	},
	"HTTP/2": func(t *testing.T, release chan struct{}) func(*proxy.Options) {
		return byHTTP2(t, func(_ http.ResponseWriter, r *http.Request) { stopReading(r.Body, release) })
	},
}

func stopReading(from io.Reader, release chan struct{}) {
	_, _ = io.ReadFull(from, make([]byte, 1000))
	<-release
	_, _ = io.Copy(io.Discard, from)
}

// byHTTP2 starts an upstream of the test's own that speaks HTTP/2.
func byHTTP2(t *testing.T, handler http.HandlerFunc) func(*proxy.Options) {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	address, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	trust := server.Client().Transport.(*http.Transport).TLSClientConfig
	return func(o *proxy.Options) { o.Upstream, o.UpstreamTLS, o.UpstreamHTTP2 = address, trust, true }
}

func TestAnUploadThatHubSpotStopsReadingEnds(t *testing.T) {
	const timeout = 400 * time.Millisecond
	for name, start := range stopping {
		for ending, test := range map[string]struct {
			size   int64 // of the body
			status int   // in the log
		}{
			"the client stays":                    {1_000_000_000, 504},
			"the client leaves":                   {1_000_000_000, 499},
			"the client has sent all, and stays":  {16 << 20, 504},
			"the client has sent all, and leaves": {16 << 20, 499},
		} {
			t.Run(name+", "+ending, func(t *testing.T) {
				t.Parallel()
				release := make(chan struct{})
				set := start(t, release)
				r := startKinds(t, setup{proxy: func(o *proxy.Options) { set(o); o.UpstreamTimeout = timeout }})
				conn := r.raw(fmt.Sprintf("POST /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n", test.size))
				from := reading(conn)
				sent := make(chan struct{})
				go func() {
					defer close(sent)
					_, _ = io.Copy(conn, &patterned{n: test.size})
				}()
				began := time.Now()
				if test.status == 499 {
					testkit.Eventually(t, "the request is under way", func() bool { return r.proxy.UnderWay() == 1 })
					select {
					case <-sent:
					case <-time.After(timeout / 2):
					}
					_ = conn.Close()
				} else {
					got := receive(t, from, http.MethodPost)
					refusal(t, got, refused{504, "UPSTREAM_TIMEOUT"})
				}
				testkit.Eventually(t, "the end of the request", func() bool { return r.proxy.UnderWay() == 0 })
				// Without the client, the request may end as soon as the proxy notices.
				if took := time.Since(began); test.status == 504 && took < timeout || took > 15*time.Second {
					t.Errorf("it took %v", took)
				}
				if lines := r.accessLog(1); lines[0].Status != test.status {
					t.Errorf("the log says %+v", lines[0])
				}
				close(release)
			})
		}
	}
}

// However slowly HubSpot reads: something is taken, so the upload goes on.
func TestAnUploadThatHubSpotReadsSlowlyGoesOn(t *testing.T) {
	const timeout, size = time.Second, 32 << 20
	read := func(to io.Writer, body io.Reader) {
		ticker := time.NewTicker(timeout / 8)
		defer ticker.Stop()
		n := int64(0)
		for range 12 { // the rest fits in no buffer of the system's
			<-ticker.C
			part, _ := io.CopyN(io.Discard, body, size/24)
			n += part
		}
		rest, _ := io.Copy(io.Discard, body)
		if n+rest == size {
			_, _ = io.WriteString(to, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	}
	for name, set := range map[string]func(*proxy.Options){
		"http": func() func(*proxy.Options) {
			set, _ := byHand(t, func(_ int64, conn net.Conn, from *bufio.Reader) {
				if request, err := http.ReadRequest(from); err == nil {
					read(conn, request.Body)
				}
			})
			return set
		}(),
		"https": byHandTLS(t, func(conn *tls.Conn, from *bufio.Reader) {
			if request, err := http.ReadRequest(from); err == nil {
				read(conn, request.Body)
			}
		}),
		"HTTP/2": byHTTP2(t, func(w http.ResponseWriter, r *http.Request) { read(io.Discard, r.Body) }),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := startRig(t, func(o *proxy.Options) { set(o); o.UpstreamTimeout = timeout })
			r.call("POST", "/a", bytes.NewReader(bytesOf(size, 0))).want(t, 200, "1")
		})
	}
}
