package proxy_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"testing"
	"time"

	"hubspot-auth-proxy/proxy"
	"hubspot-auth-proxy/proxy/intercept"
)

// tunnelName is the server that clients in tunnels believe to talk to.
const tunnelName = "api.hubapi.com"

// intercepting returns the option of a proxy that opens tunnels, and what its
// clients trust.
func intercepting(t testing.TB) (set func(*proxy.Options), trusted *x509.CertPool) {
	t.Helper()
	authority, certificate := newCA(t)
	trusted = x509.NewCertPool()
	trusted.AppendCertsFromPEM(certificate)
	return func(o *proxy.Options) { o.Intercept = authority }, trusted
}

// newCA returns a CA, and its certificate as PEM text.
func newCA(t testing.TB) (authority *intercept.Authority, certificate []byte) {
	t.Helper()
	certificate, key, err := intercept.Generate(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	authority, faults := intercept.Load(certificate, key, "", nil)
	if faults != nil {
		t.Fatal(faults)
	}
	return authority, certificate
}

// startInTunnels is startKinds, whose raw connections are tunnels.
func startInTunnels(t testing.TB, s setup) *rig {
	t.Helper()
	set, trusted := intercepting(t)
	others := s.proxy
	s.proxy = func(o *proxy.Options) {
		if others != nil {
			others(o)
		}
		set(o)
	}
	r := startKinds(t, s)
	r.through = func(conn net.Conn) net.Conn {
		inside, err := tunnel(conn, trusted, "")
		if err != nil {
			t.Fatal(err)
		}
		return inside
	}
	return r
}

// tunnel opens a tunnel to tunnelName on a connection, with that
// Proxy-Authorization; empty is none. change changes the TLS client inside.
func tunnel(conn net.Conn, trusted *x509.CertPool, authorization string, change ...func(*tls.Config)) (*tls.Conn, error) {
	if authorization != "" {
		authorization = "Proxy-Authorization: " + authorization + "\r\n"
	}
	if status, err := connectOn(conn, tunnelName+":443", authorization); err != nil || status.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("CONNECT: %v, %v", status, err)
	}
	config := &tls.Config{RootCAs: trusted, ServerName: tunnelName}
	for _, change := range change {
		change(config)
	}
	inside := tls.Client(conn, config)
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if err := inside.Handshake(); err != nil {
		return nil, fmt.Errorf("TLS handshake: %w", err)
	}
	return inside, conn.SetDeadline(time.Time{})
}

// connectOn sends a CONNECT request, with more lines of its header, and returns
// the answer. Only of a refusal it reads more than the header.
func connectOn(conn net.Conn, target, lines string) (*http.Response, error) {
	if _, err := io.WriteString(conn, "CONNECT "+target+" HTTP/1.1\r\nHost: "+tunnelName+"\r\n"+lines+"\r\n"); err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	// Not a byte of the handshake is taken: the server waits for the client's.
	return http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: http.MethodConnect})
}

// basic is a Proxy-Authorization, as clients make it of HTTPS_PROXY.
func basic(user, key string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+key))
}

// interceptedClient returns a client that uses the proxy as its HTTPS proxy.
func (r *rig) interceptedClient(trusted *x509.CertPool, user, key string, http2 bool) *http.Client {
	via := &url.URL{Scheme: "http", Host: r.addr}
	if user+key != "" {
		via.User = url.UserPassword(user, key)
	}
	transport := &http.Transport{
		Proxy: http.ProxyURL(via), TLSClientConfig: &tls.Config{RootCAs: trusted}, ForceAttemptHTTP2: http2,
		DisableCompression: true, MaxIdleConnsPerHost: 256,
	}
	r.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}
