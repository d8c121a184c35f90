package proxy_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"hubspot-auth-proxy/proxy"
	"hubspot-auth-proxy/tokens/testkit"
)

// brokenAnswers are answers that HubSpot breaks off, each with the part of its
// body that came.
var brokenAnswers = map[string]struct{ answer, body string }{
	"a body that is too short": {"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + strings.Repeat("a", 500), strings.Repeat("a", 500)},
	"a chunked body, cut":      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "hello"},
	"a chunk, cut":             {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nhello", "hello"},
	"a malformed chunk":        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX", "hello"},
	"a malformed length":       {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nXX\r\n", "hello"},
	"a malformed trailer":      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX\r\n\r\n", "hello"},
	"a large body":             {"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n" + strings.Repeat("a", 70_000), strings.Repeat("a", 70_000)},
}

func TestWhatCameOfABrokenAnswerArrives(t *testing.T) {
	for name, broken := range brokenAnswers {
		for scheme, set := range map[string]func(*proxy.Options){
			"http":  breakingOff(t, broken.answer),
			"https": breakingOffTLS(t, broken.answer),
		} {
			t.Run(scheme+", "+name, func(t *testing.T) {
				r := start(t, setup{proxy: func(o *proxy.Options) { set(o); o.AccessLog = false }})
				r.connect(portalID)
				r.arrivesBroken(t, broken.body)
			})
		}
	}
}

// Over HTTP/2, an answer breaks off by RST_STREAM, or ends before its length.
func TestWhatCameOfABrokenAnswerArrivesOverHTTP2(t *testing.T) {
	body := strings.Repeat("a", 500)
	for name, end := range map[string]func(){
		"RST_STREAM":      func() { panic(http.ErrAbortHandler) },
		"too little DATA": func() {},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Length", "1000")
				_, _ = io.WriteString(w, body)
				_ = http.NewResponseController(w).Flush()
				end()
			}))
			server.EnableHTTP2 = true
			server.StartTLS()
			t.Cleanup(server.Close)
			address, err := url.Parse(server.URL)
			if err != nil {
				t.Fatal(err)
			}
			trust := server.Client().Transport.(*http.Transport).TLSClientConfig
			r := start(t, setup{proxy: func(o *proxy.Options) {
				o.Upstream, o.UpstreamTLS, o.UpstreamHTTP2, o.AccessLog = address, trust, true, false
			}})
			r.connect(portalID)
			r.arrivesBroken(t, body)
		})
	}
}

// arrivesBroken fails the test unless all of many answers arrive as far as they
// came, and then break off.
func (r *rig) arrivesBroken(t *testing.T, body string) {
	t.Helper()
	for i := range volume(90, 20) {
		conn := r.raw([]string{head(), "POST /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nhi"}[i%2])
		response, err := http.ReadResponse(reading(conn), nil)
		if err != nil {
			t.Fatalf("answer %d: nothing arrived: %v", i, err)
		}
		got, err := io.ReadAll(response.Body)
		if response.StatusCode != http.StatusOK || string(got) != body || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("answer %d: status %d, %d bytes of %d, error %v", i, response.StatusCode, len(got), len(body), err)
		}
		_ = conn.Close()
	}
}

// breakingOff is an upstream that answers so, and closes the connection.
func breakingOff(t *testing.T, answer string) (set func(*proxy.Options)) {
	set, _ = byHand(t, func(_ int64, conn net.Conn, from *bufio.Reader) { breakOff(conn, from, answer) })
	return set
}

func breakOff(conn io.Writer, from *bufio.Reader, answer string) {
	request, err := http.ReadRequest(from)
	if err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, request.Body)
	_, _ = io.WriteString(conn, answer)
}

// breakingOffTLS is breakingOff over TLS, with close_notify in the same segment.
func breakingOffTLS(t *testing.T, answer string) (set func(*proxy.Options)) {
	t.Helper()
	return byHandTLS(t, func(conn *tls.Conn, from *bufio.Reader) {
		if err := conn.Handshake(); err != nil {
			return
		}
		below := conn.NetConn().(*holdingConn)
		below.hold()
		breakOff(conn, from, answer)
		_ = conn.CloseWrite()
		_ = conn.SetWriteDeadline(time.Time{}) // CloseWrite has set one that is over
		below.send(0)
	})
}

// byHandTLS starts an upstream over TLS that serves each connection by the
// function.
func byHandTLS(t testing.TB, serve func(conn *tls.Conn, from *bufio.Reader)) (set func(*proxy.Options)) {
	return byHandBelowTLS(t, func(conn net.Conn, config *tls.Config) {
		secure := tls.Server(conn, config)
		defer secure.Close()
		serve(secure, bufio.NewReader(secure))
	})
}

// byHandBelowTLS starts an upstream that serves each connection by the function,
// which has to make TLS of it.
func byHandBelowTLS(t testing.TB, serve func(conn net.Conn, config *tls.Config)) (set func(*proxy.Options)) {
	t.Helper()
	certified := httptest.NewTLSServer(nil)
	certified.Close()
	config := &tls.Config{Certificates: certified.TLS.Certificates}
	address := &url.URL{Scheme: "https", Host: testkit.Serve(t, func(conn net.Conn) { serve(&holdingConn{Conn: conn}, config) })}
	trust := certified.Client().Transport.(*http.Transport).TLSClientConfig
	return func(o *proxy.Options) { o.Upstream, o.UpstreamTLS = address, trust }
}
