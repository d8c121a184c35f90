package tokens_test

import (
	"context"
	"flag"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspot"
	"hubspot-auth-proxy/tokens/redistest"
	"hubspot-auth-proxy/tokens/seal"
	"hubspot-auth-proxy/tokens/secret"
	"hubspot-auth-proxy/tokens/store"
)

// BenchmarkCacheHit measures reads of cached credentials, by the number of goroutines for each
// processor and the number of portals.
func BenchmarkCacheHit(b *testing.B) {
	const portals = 10_000
	client, end := store.Embedded()
	b.Cleanup(end)
	source := manySource(b, client)
	connectMany(b, source, portals)
	warm(b, source, portals)
	for _, active := range []int{1, portals} {
		for _, goroutines := range []int{1, 1000} {
			b.Run(fmt.Sprintf("%d portals, %d goroutines", active, goroutines), func(b *testing.B) {
				ids := make([]string, active)
				for i := range ids {
					ids[i] = strconv.Itoa(i + 1)
				}
				b.ReportAllocs()
				b.SetParallelism(goroutines)
				b.RunParallel(func(loop *testing.PB) {
					for i := 0; loop.Next(); i++ {
						if _, err := source.Credential(context.Background(), ids[i%active]); err != nil {
							b.Error(err)
						}
					}
				})
			})
		}
	}
}

var portalsFlag = flag.Int("portals", 100_000, "how many records Redis has in BenchmarkManyPortals")

// BenchmarkManyPortals measures a process that serves 10,000 of many sealed OAuth portals in a real
// Redis.
func BenchmarkManyPortals(b *testing.B) {
	const active = 10_000
	stored := *portalsFlag
	server := redistest.Start(b)
	client := server.Client(b)
	before := redisMemory(b, server)
	connectMany(b, manySource(b, client), stored)
	for b.Loop() {
		began := time.Now()
		source := manySource(b, server.Client(b))
		if _, err := source.Credential(b.Context(), "1"); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(time.Since(began).Microseconds())/1e3, "ms-to-first-credential")

		heap := heapInUse()
		began = time.Now()
		warm(b, source, active)
		b.ReportMetric(float64(time.Since(began).Microseconds())/active, "µs/portal-to-read")
		b.ReportMetric(float64(heapInUse()-heap)/active, "B/cached-portal")
		b.ReportMetric(eventTime(b, client, source, active), "µs/event")
	}
	b.ReportMetric(0, "ns/op") // the time of the whole benchmark says nothing
	b.ReportMetric(float64(redisMemory(b, server)-before)/float64(stored), "B-in-Redis/portal")
}

func manySource(b *testing.B, client redis.UniversalClient) *tokens.Source {
	b.Helper()
	ring, err := seal.Parse(benchmarkRing)
	if err != nil {
		b.Fatal(err)
	}
	source := tokens.NewSource(tokens.Options{Redis: client, Prefix: "hubspot:", Keys: ring, RefreshAhead: 5 * time.Minute})
	b.Cleanup(func() { _ = source.Close(context.Background()) })
	return source
}

var benchmarkRing = func() secret.Text {
	key, err := seal.Generate("bench")
	if err != nil {
		panic(err)
	}
	return key
}()

// connectMany connects portals 1 to n, with tokens as long as HubSpot's.
func connectMany(b *testing.B, source *tokens.Source, n int) {
	b.Helper()
	eachOf(b, n, func(i int) error {
		id := strconv.Itoa(i + 1)
		return source.Connect(context.Background(), id, hubspot.Token{
			Access: secret.New("C" + strings.Repeat("x", 250-len(id)) + id), Refresh: secret.New("na1-" + fmt.Sprintf("%036d", i)), ExpiresIn: 30 * time.Minute,
		}, tokens.ConnectRequest{Issued: time.Now()}, "benchmark")
	})
}

// warm reads the credentials of portals 1 to n.
func warm(b *testing.B, source *tokens.Source, n int) {
	b.Helper()
	eachOf(b, n, func(i int) error {
		_, err := source.Credential(context.Background(), strconv.Itoa(i+1))
		return err
	})
}

// eventTime changes n portals. It returns the average time for each portal, in µs, until the source
// has got all messages and has read the records again.
func eventTime(b *testing.B, client redis.UniversalClient, source *tokens.Source, n int) float64 {
	b.Helper()
	other := manySource(b, client)
	began := time.Now()
	eachOf(b, n, func(i int) error {
		return other.Connect(context.Background(), strconv.Itoa(i+1), hubspot.Token{
			Access: secret.New("renewed-" + strconv.Itoa(i+1)), Refresh: secret.New("na1-renewed"), ExpiresIn: 30 * time.Minute,
		}, tokens.ConnectRequest{Issued: time.Now()}, "benchmark")
	})
	for i := range n {
		id := strconv.Itoa(i + 1)
		for {
			credential, err := source.Credential(b.Context(), id)
			if err == nil && credential.Secret.Reveal() == "renewed-"+id {
				break
			}
			if time.Since(began) > time.Minute {
				b.Fatalf("portal %s: the change is not heard of", id)
			}
			<-time.After(time.Millisecond)
		}
	}
	return float64(time.Since(began).Microseconds()) / float64(n)
}

// eachOf calls do n times, 16 at a time.
func eachOf(b *testing.B, n int, do func(i int) error) {
	b.Helper()
	turns := make(chan int)
	var working sync.WaitGroup
	for range 16 {
		working.Go(func() {
			for i := range turns {
				if err := do(i); err != nil {
					b.Error(err)
				}
			}
		})
	}
	for i := range n {
		turns <- i
	}
	close(turns)
	working.Wait()
	if b.Failed() {
		b.FailNow()
	}
}

func redisMemory(b *testing.B, server *redistest.Server) int {
	b.Helper()
	_, after, _ := strings.Cut(server.Do("info", "memory"), "used_memory:")
	used, err := strconv.Atoi(strings.TrimSpace(strings.SplitN(after, "\n", 2)[0]))
	if err != nil {
		b.Fatal(err)
	}
	return used
}

func heapInUse() int {
	var stats runtime.MemStats
	runtime.GC()
	runtime.GC() // what is in a sync.Pool survives one collection
	runtime.ReadMemStats(&stats)
	return int(stats.HeapAlloc)
}
