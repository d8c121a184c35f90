package proxy

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"hubspot-auth-proxy/tokens/secret"
)

// The names and credentials are canaries: only the proxy may see them.
const proxyUser, proxyPassword = "user", "p@ss:word"

func TestHubSpotIsReachedThroughTheProxyOfTheEnvironment(t *testing.T) {
	hub := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Method+" "+r.Host+r.RequestURI)
	}))
	t.Cleanup(hub.Close)
	to := strings.TrimPrefix(hub.URL, "https://")
	for scheme, listen := range map[string]func(t *testing.T, to string) (address string){"http": connectProxy, "socks5": socksProxy, "socks5h": socksProxy} {
		t.Run(scheme, func(t *testing.T) {
			via := &url.URL{Scheme: scheme, Host: listen(t, to), User: url.UserPassword(proxyUser, proxyPassword)}
			d := dialerVia(hub, via)
			c, err := d.dial(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			request := httptest.NewRequest("GET", "https://example.com/a", nil)
			request.Body = nil
			writeHeader(c.to, request)
			if err := c.flush(); err != nil {
				t.Fatal(err)
			}
			response, err := http.ReadResponse(c.from, request)
			if err != nil {
				t.Fatal(err)
			}
			if body, err := io.ReadAll(response.Body); err != nil || string(body) != "GET example.com"+request.URL.RequestURI() {
				t.Errorf("HubSpot answers %q, %v", body, err)
			}
			if !c.fresh() {
				t.Error("the connection cannot be used again")
			}
			hub.CloseClientConnections()
			for deadline := time.Now().Add(10 * time.Second); c.fresh(); <-time.After(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("that HubSpot has closed the connection is not seen")
				}
			}
		})
	}
}

func TestAProxyThatRefusesIsToldWithoutItsPassword(t *testing.T) {
	hub := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(hub.Close)
	via := &url.URL{Scheme: "http", Host: connectProxy(t, ""), User: url.UserPassword(proxyUser, "wrong-"+proxyPassword)}
	_, err := dialerVia(hub, via).dial(t.Context())
	if err == nil || !strings.Contains(err.Error(), "407") || strings.Contains(err.Error(), proxyPassword) || secret.Cause(err).Error() != err.Error() {
		t.Errorf("the error is %v, and in the log %v", err, secret.Cause(err))
	}
}

// dialerVia returns a dialer to example.com, which the hub's certificate names.
func dialerVia(hub *httptest.Server, via *url.URL) *dialer {
	trust := hub.Client().Transport.(*http.Transport).TLSClientConfig
	d := newDialer(Options{Upstream: &url.URL{Scheme: "https", Host: "example.com"}, UpstreamTLS: &tls.Config{RootCAs: trust.RootCAs}})
	d.via = func(*http.Request) (*url.URL, error) { return via, nil }
	return d
}

// connectProxy is an HTTP proxy that leads to one address, whatever it is asked
// for.
func connectProxy(t *testing.T, to string) (address string) {
	return serving(t, func(conn net.Conn) {
		request, err := http.ReadRequest(bufio.NewReader(conn))
		if err != nil {
			return
		}
		user, password, _ := (&http.Request{Header: http.Header{"Authorization": request.Header["Proxy-Authorization"]}}).BasicAuth()
		if request.Method != http.MethodConnect || request.RequestURI != "example.com:443" || user != proxyUser || password != proxyPassword {
			_, _ = io.WriteString(conn, "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 200 Connection established\r\n\r\n")
		pass(conn, to)
	})
}

// socksProxy is one of SOCKS5 (RFC 1928, RFC 1929).
func socksProxy(t *testing.T, to string) (address string) {
	return serving(t, func(conn net.Conn) {
		from := bufio.NewReader(conn)
		read := func(n int) string {
			text := make([]byte, n)
			_, _ = io.ReadFull(from, text)
			return string(text)
		}
		length := func() int { return int(read(1)[0]) }
		_ = read(1)        // version
		_ = read(length()) // methods
		_, _ = conn.Write([]byte{5, 2})
		_ = read(1)
		user, password := read(length()), read(length())
		_, _ = conn.Write([]byte{1, 0})
		_ = read(4) // CONNECT to a name
		host, port := read(length()), binary.BigEndian.Uint16([]byte(read(2)))
		if user != proxyUser || password != proxyPassword || host != "example.com" || port != 443 {
			return
		}
		_, _ = conn.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
		pass(conn, to)
	})
}

// pass copies both ways between a connection and an address.
func pass(conn net.Conn, to string) {
	hub, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	go func() {
		_, _ = io.Copy(hub, conn)
		_ = hub.Close()
	}()
	_, _ = io.Copy(conn, hub)
}

// serving serves each connection, until the test ends.
func serving(t *testing.T, serve func(net.Conn)) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				serve(conn)
			}()
		}
	}()
	return listener.Addr().String()
}
