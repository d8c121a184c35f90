package upstream_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hubspot-auth-proxy/proxy/upstream"
)

// BenchmarkHandshake measures the client's CPU time for a new TLS connection: with a
// resumed session, as the proxy does it, and without.
func BenchmarkHandshake(b *testing.B) {
	var resumed atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS.DidResume {
			resumed.Add(1)
		}
		w.Header().Set("Connection", "close")
		w.Header().Set("Content-Length", "0")
	}))
	chain, roots := certificates(b)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{chain}}
	server.StartTLS()
	b.Cleanup(server.Close)
	address, err := url.Parse(server.URL)
	if err != nil {
		b.Fatal(err)
	}
	for name, cache := range map[string]tls.ClientSessionCache{"resumed": nil, "full": noSessions{}} {
		b.Run(name, func(b *testing.B) {
			transport := upstream.New(upstream.Config{URL: address, TLS: &tls.Config{RootCAs: roots, ClientSessionCache: cache}})
			b.Cleanup(transport.CloseIdleConnections)
			resumed.Store(0)
			runtime.LockOSThread() // the CPU time is measured per thread
			defer runtime.UnlockOSThread()
			var before, after unix.Rusage
			for i := range b.N + 1 {
				if i == 1 { // the first one has no session
					_ = unix.Getrusage(unix.RUSAGE_THREAD, &before)
				}
				request, _ := http.NewRequestWithContext(b.Context(), "GET", server.URL, nil)
				response, err := transport.RoundTrip(request)
				if err != nil {
					b.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, response.Body)
				_ = response.Body.Close()
			}
			_ = unix.Getrusage(unix.RUSAGE_THREAD, &after)
			took := time.Duration(after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano())
			if n := resumed.Load(); n != map[string]int64{"resumed": int64(b.N)}[name] {
				b.Errorf("%d of %d sessions were resumed", n, b.N)
			}
			b.ReportMetric(0, "ns/op") // would count both sides
			b.ReportMetric(float64(took.Microseconds())/float64(b.N), "µs-CPU/handshake")
		})
	}
}

// certificates returns a server certificate like the one of HubSpot's edge: ECDSA, issued
// by an intermediate authority.
func certificates(b *testing.B) (chain tls.Certificate, roots *x509.CertPool) {
	b.Helper()
	roots = x509.NewCertPool()
	var parent *x509.Certificate
	var parentKey *ecdsa.PrivateKey
	for i, name := range []string{"root", "intermediate", "leaf"} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			b.Fatal(err)
		}
		template := &x509.Certificate{
			SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: name},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			IsCA: i < 2, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
			IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		}
		if i == 0 {
			parent, parentKey = template, key
		}
		raw, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
		if err != nil {
			b.Fatal(err)
		}
		if parent, err = x509.ParseCertificate(raw); err != nil {
			b.Fatal(err)
		}
		parentKey = key
		if i == 0 {
			roots.AddCert(parent)
			continue
		}
		chain.Certificate, chain.PrivateKey = append([][]byte{raw}, chain.Certificate...), key
	}
	return chain, roots
}

// noSessions is a session cache that stores nothing.
type noSessions struct{}

func (noSessions) Get(string) (*tls.ClientSessionState, bool) { return nil, false }
func (noSessions) Put(string, *tls.ClientSessionState)        {}
