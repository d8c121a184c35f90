package upstream_test

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"hubspot-auth-proxy/proxy/upstream"
	"hubspot-auth-proxy/tokens/secret"
	"hubspot-auth-proxy/tokens/testkit"
)

// The names and credentials are canaries: they must not appear anywhere but in the
// requests to the proxy.
const proxyUser, proxyPassword = "user", "p@ss:word"

func TestTheServerIsReachedThroughAProxy(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Method+" "+r.Host+r.RequestURI+" "+r.RemoteAddr)
	}))
	t.Cleanup(server.Close)
	to := strings.TrimPrefix(server.URL, "https://")
	for scheme, listen := range map[string]func(t *testing.T, to string) (address string){"http": connectProxy, "socks5": socksProxy, "socks5h": socksProxy} {
		t.Run(scheme, func(t *testing.T) {
			via := &url.URL{Scheme: scheme, Host: listen(t, to), User: url.UserPassword(proxyUser, proxyPassword)}
			transport := through(t, server, via)
			var first string
			for range 3 { // on one connection
				response, err := transport.RoundTrip(get(t, "https://example.com/a"))
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(response.Body)
				_ = response.Body.Close()
				if first == "" {
					first = string(body)
				}
				if err != nil || string(body) != first || !strings.HasPrefix(first, "GET example.com/a 127.0.0.1:") {
					t.Errorf("the server answers %q, %v", body, err)
				}
			}
		})
	}
}

func TestAProxyThatRefusesIsReportedWithoutItsPassword(t *testing.T) {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(server.Close)
	via := &url.URL{Scheme: "http", Host: connectProxy(t, ""), User: url.UserPassword(proxyUser, "wrong-"+proxyPassword)}
	_, err := through(t, server, via).RoundTrip(get(t, "https://example.com/a"))
	if err == nil || !strings.Contains(err.Error(), "407") || strings.Contains(err.Error(), proxyPassword) || !strings.Contains(secret.Cause(err).Error(), "407") {
		t.Errorf("the error is %v, and in the log %v", err, secret.Cause(err))
	}
}

func TestAProxyThatIsNoURLIsNotQuoted(t *testing.T) {
	_, bad := url.Parse(fmt.Sprintf("http://user:%s@%%zz", proxyPassword))
	transport := upstream.New(upstream.Config{
		URL:   &url.URL{Scheme: "https", Host: "example.com"},
		Proxy: func(*http.Request) (*url.URL, error) { return nil, bad },
	})
	_, err := transport.RoundTrip(get(t, "https://example.com/a"))
	if err == nil || strings.Contains(err.Error(), proxyPassword) || !strings.Contains(secret.Cause(err).Error(), "HTTPS_PROXY") {
		t.Errorf("the error is %v, and in the log %v", err, secret.Cause(err))
	}
}

// through returns a transport to example.com, the name in the server's certificate.
func through(t *testing.T, server *httptest.Server, via *url.URL) *upstream.Transport {
	trust := server.Client().Transport.(*http.Transport).TLSClientConfig
	transport := upstream.New(upstream.Config{
		URL:   &url.URL{Scheme: "https", Host: "example.com"},
		TLS:   &tls.Config{RootCAs: trust.RootCAs},
		Proxy: func(*http.Request) (*url.URL, error) { return via, nil },
	})
	t.Cleanup(transport.CloseIdleConnections)
	return transport
}

func get(t *testing.T, address string) *http.Request {
	request, err := http.NewRequestWithContext(t.Context(), "GET", address, nil)
	if err != nil {
		t.Fatal(err)
	}
	return request
}

// connectProxy is an HTTP proxy that connects to one address, whatever name the client
// sends.
func connectProxy(t *testing.T, to string) (address string) {
	return testkit.Serve(t, func(conn net.Conn) {
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

// socksProxy is a SOCKS5 proxy (RFC 1928, RFC 1929).
func socksProxy(t *testing.T, to string) (address string) {
	return testkit.Serve(t, func(conn net.Conn) {
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

// pass connects to an address, and copies bytes in both directions.
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
