package proxy_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"hubspot-auth-proxy/proxy/intercept"
)

// BenchmarkIntercepted sends the same requests through tunnels and directly to
// one process, in turns, and reports the CPU time that the system counts for
// each request: on connections that are kept, and on a new one for each request,
// where the difference is CONNECT and the TLS handshake.
func BenchmarkIntercepted(b *testing.B) {
	s := newSite(b, 1)
	certificate, key, err := intercept.Generate(time.Now())
	if err != nil {
		b.Fatal(err)
	}
	paths := []string{filepath.Join(s.dir, "intercept.pem"), filepath.Join(s.dir, "intercept-key.pem")}
	for i, text := range []string{string(certificate), key.Reveal()} {
		if err := os.WriteFile(paths[i], []byte(text), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	direct := s.startOurs(b, "INTERCEPT_CA_CERT_FILE="+paths[0], "INTERCEPT_CA_KEY_FILE="+paths[1])
	direct.awaitAddr(b)
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(certificate)
	for _, kept := range []bool{true, false} {
		for _, http2 := range []bool{false, true} {
			for _, clients := range []int{1, 50} {
				b.Run(fmt.Sprintf("kept=%v/http2=%v/%d clients", kept, http2, clients), func(b *testing.B) {
					tunnels := direct.through(b, trusted, http2, kept)
					plain := &child{Cmd: direct.Cmd, addr: direct.addr, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableKeepAlives: !kept}}}
					defer plain.client.CloseIdleConnections()
					s.compare(b, side{"intercepted", tunnels, workloads[0]}, side{"direct", plain, workloads[0]}, clients)
				})
			}
		}
	}
}

// through returns the process as its clients in tunnels see it.
func (c *child) through(b *testing.B, trusted *x509.CertPool, http2, kept bool) *child {
	b.Helper()
	transport := &http.Transport{
		Proxy:               http.ProxyURL(&url.URL{Scheme: "http", Host: c.addr, User: url.UserPassword("1", benchmarkKey)}),
		TLSClientConfig:     &tls.Config{RootCAs: trusted},
		ForceAttemptHTTP2:   http2,
		MaxIdleConnsPerHost: 64,
		DisableCompression:  true,
		DisableKeepAlives:   !kept,
	}
	b.Cleanup(transport.CloseIdleConnections)
	return &child{Cmd: c.Cmd, base: "https://" + tunnelName, client: &http.Client{Transport: transport}}
}
