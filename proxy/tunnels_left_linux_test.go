package proxy_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"maps"
	"net"
	"runtime"
	"slices"
	"strings"
	"testing"

	"hubspot-auth-proxy/tokens/testkit"
)

// leavings are ways in which clients leave tunnels.
func leavings() map[string]func(conn net.Conn, trusted *x509.CertPool, authorization string) error {
	send := func(text string) func(net.Conn, *x509.CertPool, string) error {
		return func(conn net.Conn, _ *x509.CertPool, authorization string) error {
			if _, err := connectOn(conn, tunnelName+":443", "Proxy-Authorization: "+authorization+"\r\n"); err != nil {
				return err
			}
			_, err := io.WriteString(conn, text)
			return err
		}
	}
	inside := func(then func(net.Conn, *tls.Conn) error) func(net.Conn, *x509.CertPool, string) error {
		return func(conn net.Conn, trusted *x509.CertPool, authorization string) error {
			i, err := tunnel(conn, trusted, authorization)
			if err != nil {
				return err
			}
			return then(conn, i)
		}
	}
	ask := func(i *tls.Conn, request string, lines ...string) error {
		_, err := io.WriteString(i, request+" HTTP/1.1\r\nHost: api.hubapi.com\r\n"+strings.Join(append(lines, "\r\n"), "\r\n"))
		return err
	}
	return map[string]func(net.Conn, *x509.CertPool, string) error{
		"at once":           send(""),
		"with garbage":      send("GET / HTTP/1.1\r\n\r\n"),
		"in the handshake":  send("\x16\x03\x01\x02\x00\x01"),
		"after it":          inside(func(_ net.Conn, i *tls.Conn) error { return i.CloseWrite() }),
		"by a reset":        inside(func(conn net.Conn, _ *tls.Conn) error { return conn.(*net.TCPConn).SetLinger(0) }),
		"in a request":      inside(func(_ net.Conn, i *tls.Conn) error { return ask(i, "POST /a", "Content-Length: 9", "") }),
		"before the answer": inside(func(_ net.Conn, i *tls.Conn) error { return ask(i, "GET /fake/hang") }),
		"after the answer": inside(func(_ net.Conn, i *tls.Conn) error {
			if err := ask(i, "GET /a"); err != nil {
				return err
			}
			_, err := i.Read(make([]byte, 1))
			return err
		}),
	}
}

// Each way is taken 125 times: what it left would show among what a proxy
// without clients has.
func TestATunnelThatIsLeftLeavesNothingBehind(t *testing.T) {
	const n, few = 1000, 60
	files, goroutines := descriptors(t), runtime.NumGoroutine()
	set, trusted := intercepting(t)
	c := startKeyed(t, set)
	ways := leavings()
	names := slices.Sorted(maps.Keys(ways))
	together(t, n, 50, func(i int) error {
		name := names[i%len(names)]
		conn, err := net.Dial("tcp", c.addr)
		if err != nil {
			return err
		}
		defer conn.Close()
		if err := ways[name](conn, trusted, basic("", c.key["one"])); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	})
	if requests := c.hub.Requests(); requests < n/len(names) {
		t.Errorf("%d requests of %d tunnels", requests, n)
	}
	testkit.Eventually(t, "all tunnels are closed", func() bool {
		now := gathered(t, c.metrics)
		return now["tunnels"] == 0 && now["requests_in_flight"] == 0
	})
	c.hub.Close() // and what the proxy keeps for later requests
	testkit.Eventually(t, "nothing is left", func() bool {
		return descriptors(t)-files < few && runtime.NumGoroutine()-goroutines < few
	})
}
