package proxy_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"hubspot-auth-proxy/proxy"
	"hubspot-auth-proxy/proxy/clients"
	"hubspot-auth-proxy/proxy/plain"
	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/secret"
	"hubspot-auth-proxy/tokens/store"
)

// BenchmarkAllocations counts what a request through the proxy allocates, and
// how much more that is than through a plain ReverseProxy. Client and upstream
// are in the same process; what they allocate is in both.
func BenchmarkAllocations(b *testing.B) {
	s := newSite(b, 1)
	upstream, err := url.Parse(s.upstream.URL)
	if err != nil {
		b.Fatal(err)
	}
	trust := s.upstream.Client().Transport.(*http.Transport).TLSClientConfig
	r := start(b, setup{proxy: func(o *proxy.Options) {
		o.Upstream, o.UpstreamTLS = upstream, trust
		o.AllowAnonymous, o.Clients = false, benchmarkClients(b)
		o.Log = zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(io.Discard), zapcore.InfoLevel))
	}})
	r.seed(portalID, tokens.AccessToken, benchmarkToken)
	reverse := plain.New(upstream)
	transport := reverse.Transport.(*http.Transport)
	transport.TLSClientConfig = trust
	b.Cleanup(transport.CloseIdleConnections)
	theirs := httptest.NewServer(reverse)
	b.Cleanup(theirs.Close)
	for _, w := range workloads[:2] {
		b.Run(w.name, func(b *testing.B) {
			ours, oursBytes := allocations(b, &child{addr: r.addr, client: r.client}, w)
			plain, plainBytes := allocations(b, &child{addr: theirs.Listener.Addr().String(), client: r.client}, w)
			b.ReportMetric(0, "ns/op") // of both together
			b.ReportMetric(ours-plain, "more-allocs/req")
			b.ReportMetric(ours, "allocs/req")
			b.ReportMetric(oursBytes-plainBytes, "more-B/req")
		})
	}
}

// allocations sends b.N requests and returns how many allocations, and of how
// many bytes, each one took.
func allocations(b *testing.B, to *child, w workload) (count, bytes float64) {
	var before, after runtime.MemStats
	for i := range b.N + 1 {
		if i == 1 { // the first one opens connections
			runtime.ReadMemStats(&before)
		}
		if err := to.once(w, i); err != nil {
			b.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / float64(b.N), float64(after.TotalAlloc-before.TotalAlloc) / float64(b.N)
}

// benchmarkClients has the client whose key the requests of benchmarks have.
func benchmarkClients(b *testing.B) *clients.Set {
	redis, end := store.Embedded()
	b.Cleanup(end)
	set := clients.NewSet(clients.Store{Redis: redis, Prefix: "hubspot:"}, zap.NewNop())
	b.Cleanup(set.Close)
	set.Seed([]clients.Client{{Name: "benchmark", KeySHA256: clients.Hash(secret.New(benchmarkKey)), Portals: []string{portalID}}})
	return set
}
