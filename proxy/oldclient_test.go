package proxy_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"hubspot-auth-proxy/proxy"
	"hubspot-auth-proxy/proxy/connlimit"
)

// getOld is a request of an HTTP/1.0 client, for which the end of the connection is the end
// of a body without Content-Length.
const getOld = "GET /a HTTP/1.0\r\nHost: localhost\r\n\r\n"

// limited serves the rig's proxy at one more address, through a connlimit.Listener as the
// program does. It returns a function that connects a client, by TLS if secure. The
// connection is served when the one before is closed.
func (r *rig) limited(secure bool) (connect func() net.Conn) {
	server := httptest.NewUnstartedServer(nil)
	server.Config = r.proxy.Server()
	limit := connlimit.New(server.Listener, 1, time.Minute, 0)
	server.Listener, server.Config.ConnState, server.Config.ConnContext = limit, limit.ConnState, limit.ConnContext
	if secure {
		server.StartTLS()
	} else {
		server.Start()
	}
	r.t.Cleanup(server.Close)
	return func() net.Conn {
		conn, err := net.Dial("tcp", limit.Addr().String())
		if err != nil {
			r.t.Fatal(err)
		}
		r.t.Cleanup(func() { _ = conn.Close() })
		if secure {
			roots := x509.NewCertPool()
			roots.AddCert(server.Certificate())
			conn = tls.Client(conn, &tls.Config{RootCAs: roots, ServerName: "example.com"})
		}
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		return conn
	}
}

// A broken answer whose end is the end of the connection must not end as a complete one
// does.
func TestAnOldClientSeesThatAnAnswerBrokeOff(t *testing.T) {
	intercept, trusted := intercepting(t)
	for name, broken := range brokenAnswers {
		if name == "a body that is too short" || name == "a large body" {
			continue // the client counts
		}
		r := startRig(t, func(o *proxy.Options) { breakingOff(t, broken.answer)(o); intercept(o); o.Loopback = false })
		for _, secure := range []bool{false, true} {
			connect := r.limited(secure)
			for _, inTunnel := range []bool{false, true} {
				conn, request := connect(), getOld
				if inTunnel {
					inside, err := tunnel(conn, trusted, "")
					if err != nil {
						t.Fatal(err)
					}
					conn, request = inside, strings.Replace(getOld, "localhost", tunnelName, 1)
				}
				_, _ = io.WriteString(conn, request)
				got, err := io.ReadAll(conn)
				if !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("%s, TLS %t, in a tunnel %t: ended with %v", name, secure, inTunnel, err)
				}
				if !strings.HasPrefix(string(got), "HTTP/1.0 200 OK\r\n") || !strings.HasSuffix(string(got), "\r\n\r\n"+broken.body) {
					t.Errorf("%s, TLS %t, in a tunnel %t: got %q", name, secure, inTunnel, got)
				}
			}
		}
		if n := strings.Count(r.logs.String(), "panic"); n != 0 {
			t.Errorf("%d panics are logged", n)
		}
	}
}

func TestAnOldClientGetsACompleteAnswerWithAnOrderlyEnd(t *testing.T) {
	for name, answer := range map[string]string{
		"chunked":            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
		"with a length":      "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
		"ends by connection": "HTTP/1.1 200 OK\r\n\r\nhello",
	} {
		r := startRig(t, func(o *proxy.Options) { breakingOff(t, answer)(o); o.Loopback = false })
		got, err := io.ReadAll(reading(r.raw(getOld)))
		if err != nil || !strings.HasSuffix(string(got), "\r\n\r\nhello") {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// An HTTP/1.0 client would take an informational answer for the final one (RFC 9110 section
// 15.2).
func TestAnOldClientGetsNoInformationalAnswer(t *testing.T) {
	for name, request := range map[string]string{
		"GET":                  getOld,
		"POST":                 "POST /a HTTP/1.0\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc",
		"Expect: 100-continue": "POST /a HTTP/1.0\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
	} {
		set, _ := byHand(t, func(_ int64, conn net.Conn, from *bufio.Reader) {
			breakOff(conn, from, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nX-A: b\r\nContent-Length: 2\r\n\r\nok")
		})
		r := startRig(t, func(o *proxy.Options) { set(o); o.Loopback = false })
		got := r.rawAnswer(request)
		if !strings.HasPrefix(got, "HTTP/1.0 200 OK\r\n") || !strings.Contains(got, "X-A: b\r\n") || strings.Contains(got, "Link") {
			t.Errorf("%s: %q", name, got)
		}
	}
}
