package proxy_test

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"hubspot-auth-proxy/tokens/redistest"
)

// BenchmarkFootprint is what the program takes beside CPU: its size, how long
// it takes until it is ready, with a Redis that is there, and the most memory
// that it has had when it was idle, then with 50 clients of 2 KB, then with two
// bodies of 1 GiB at once, each way.
func BenchmarkFootprint(b *testing.B) {
	redis := redistest.Start(b)
	s := newSite(b, 1)
	var c *child
	var ready []float64
	for range 5 {
		admin := freeAddr(b)
		c = s.startOurs(b, "REDIS_URL="+redis.URL(), "ADMIN_ADDR="+admin)
		ready = append(ready, float64(c.readyAfter(b, admin).Microseconds())/1e3)
	}
	info, err := os.Stat(filepath.Join(s.dir, "hubspot-auth-proxy"))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(0, "ns/op") // builds it, too
	b.ReportMetric(float64(info.Size())/1e6, "MB-binary")
	b.ReportMetric(median(ready), "ms-until-ready")
	c.awaitAddr(b)
	b.ReportMetric(c.peakMemory(b), "MiB-idle")
	s.send(b, c, workloads[0], 50, 20_000)
	b.ReportMetric(c.peakMemory(b), "MiB-50-clients")
	for _, w := range []workload{{method: "POST", sent: 1 << 30}, {method: "GET", received: 1 << 30}} {
		s.send(b, c, w, 2, 2)
	}
	b.ReportMetric(c.peakMemory(b), "MiB-bodies-of-1-GiB")
}

// readyAfter returns how long after its start the process is ready.
func (c *child) readyAfter(b *testing.B, admin string) time.Duration {
	for deadline := c.began.Add(10 * time.Second); time.Now().Before(deadline); <-time.After(time.Millisecond) {
		response, err := c.client.Get("http://" + admin + "/readyz")
		if err != nil {
			continue
		}
		_ = response.Body.Close()
		if response.StatusCode == http.StatusOK {
			return time.Since(c.began)
		}
	}
	b.Fatal("the proxy does not become ready")
	return 0
}

// freeAddr returns an address that nobody listens on.
func freeAddr(b *testing.B) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}
