//go:build unix

package admin_test

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"hubspot-auth-proxy/proxy/admin"
	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/redistest"
	"hubspot-auth-proxy/tokens/testkit"
)

var portalsFlag = flag.Int("portals", 100_000, "how many records Redis has in BenchmarkManyPortals")

// BenchmarkManyPortals is the status page with so many portals in a real Redis:
// the time until its first byte, what the survey of the records takes of a core,
// and the memory that the process needs to know them.
func BenchmarkManyPortals(b *testing.B) {
	server := redistest.Start(b)
	client := server.Client(b)
	fill(b, client, *portalsFlag)
	source := tokens.NewSource(tokens.Options{Redis: client, Prefix: "hubspot:"})
	b.Cleanup(func() { _ = source.Close(context.Background()) })
	costs := surveyed(b, source)
	b.Run("survey", func(b *testing.B) {
		for unit, value := range costs {
			b.ReportMetric(value, unit)
		}
	})
	a := admin.New(admin.Options{RedisAnswers: source.RedisAnswers, Loopback: true, Portals: source})
	listening := httptest.NewServer(a)
	b.Cleanup(listening.Close)

	for _, path := range []string{"/", "/?page=2000", "/?q=acme", "/?q=no+such+portal", "/?state=attention"} {
		b.Run(path, func(b *testing.B) {
			var sum, most time.Duration
			for b.Loop() {
				took := firstByte(b, listening.URL+path)
				sum, most = sum+took, max(most, took)
			}
			b.ReportMetric(float64(sum.Microseconds())/1e3/float64(b.N), "ms-to-first-byte")
			b.ReportMetric(float64(most.Microseconds())/1e3, "ms-at-most")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// surveyed measures the cost of a survey of all portals, by unit.
func surveyed(b *testing.B, source *tokens.Source) map[string]float64 {
	costs := map[string]float64{"ns/op": 0}
	before, began, used := heap(), time.Now(), cpu()
	source.FollowAll()
	testkit.Within(b, 5*time.Minute, "all portals are known", func() bool { return source.Overview(b.Context(), tokens.Query{}).Whole })
	costs["s-until-all-are-known"] = time.Since(began).Seconds()
	costs["s-of-a-core-for-that"] = (cpu() - used).Seconds()
	costs["B/portal"] = float64(heap()-before) / float64(*portalsFlag)
	time.Sleep(15 * time.Second) // the interval between two surveys
	began, used = time.Now(), cpu()
	time.Sleep(20 * time.Second) // the period that is measured
	costs["%-of-a-core-afterwards"] = 100 * (cpu() - used).Seconds() / time.Since(began).Seconds()
	return costs
}

// fill stores portals, every hundredth of which has ended.
func fill(b *testing.B, client redis.UniversalClient, n int) {
	b.Helper()
	for begin := 0; begin < n; begin += 1000 {
		pipe := client.Pipeline()
		for i := begin; i < min(begin+1000, n); i++ {
			state := "active"
			if i%100 == 0 {
				state = "ended"
			}
			pipe.HSet(b.Context(), "hubspot:portal:{"+strconv.Itoa(1_000_000+i)+"}", "schema", "1", "generation", "1", "grant", "1", "state", state, "kind", "oauth",
				"name", fmt.Sprintf("Acme %d of somewhere", i), "access_token", fmt.Sprintf("C%0250d", i), "refresh_token", fmt.Sprintf("na1-%036d", i), "api_key", "",
				"seeds", "", "renewed_at", "1700000000000", "expires_at", "1700001800000")
		}
		if _, err := pipe.Exec(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

// firstByte returns how long the first byte of a page takes.
func firstByte(b *testing.B, address string) (took time.Duration) {
	b.Helper()
	began := time.Now()
	ctx := httptrace.WithClientTrace(b.Context(), &httptrace.ClientTrace{GotFirstResponseByte: func() { took = time.Since(began) }})
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		b.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		b.Fatal(err)
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil || response.StatusCode != http.StatusOK {
		b.Fatal(response.Status, err)
	}
	return took
}

// heap returns the memory that is in use.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// cpu returns the processor time that this process has used.
func cpu() time.Duration {
	var usage syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
