package proxy_test

import (
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hubspot-auth-proxy/tokens/hubspottest"
)

// workload is requests of one kind.
type workload struct {
	name     string
	method   string
	sent     int           // bytes of each request's body
	received int           // bytes of each answer's body
	portals  int           // that they are for, in turn; 0: the client's own
	chunked  bool          // the answer has no Content-Length, as most of HubSpot's
	latency  time.Duration // until the answer

	unlimited bool // HubSpot's headers say that the rate limit is the highest that is taken in
}

var workloads = []workload{
	{name: "GET 2 KB", method: "GET", received: 2 << 10},
	{name: "POST 1 KB", method: "POST", sent: 1 << 10, received: 2 << 10},
	{name: "GET 2 KB in chunks", method: "GET", received: 2 << 10, chunked: true},
	{name: "GET 2 KB after 20 ms", method: "GET", received: 2 << 10, latency: 20 * time.Millisecond},
	{name: "POST 64 KB", method: "POST", sent: 64 << 10, received: 2 << 10},
	{name: "POST 1 MB", method: "POST", sent: 1 << 20, received: 2 << 10},
	{name: "download 10 MB", method: "GET", received: 10 << 20},
}

// BenchmarkAgainstPlain sends the same requests through this proxy and through a
// plain ReverseProxy, in turns, each a process of its own, built as it is
// shipped, with a TLS upstream. It reports the CPU time that the system counts
// for each request, and as ratio the median of the turns.
//
// The proxy does all that it does in production: it looks callers up by their
// keys, attaches a portal's token and writes its access log to a pipe.
func BenchmarkAgainstPlain(b *testing.B) {
	s := newSite(b, 1)
	ours, plain := s.startOurs(b), s.startPlain(b)
	ours.awaitAddr(b)
	for _, w := range workloads {
		for _, clients := range []int{1, 50} {
			if clients == 1 && w.latency > 0 {
				continue // takes minutes
			}
			b.Run(fmt.Sprintf("%s/%d clients", w.name, clients), func(b *testing.B) {
				s.compare(b, side{"ours", ours, w}, side{"plain", plain, w}, clients)
			})
		}
	}
}

// beforeVariable is the environment variable with the path of another build of the
// program, which BenchmarkAgainstBefore compares this one with in the same run:
//
//	git stash; go build -o /tmp/before ./cmd/hubspot-auth-proxy; git stash pop
//	BENCHMARK_BEFORE=/tmp/before go test -run '^$' -bench AgainstBefore -benchtime 20000x ./proxy
const beforeVariable = "BENCHMARK_BEFORE"

// BenchmarkAgainstBefore is BenchmarkAgainstPlain, with another build of the program
// instead of the plain ReverseProxy.
func BenchmarkAgainstBefore(b *testing.B) {
	program := os.Getenv(beforeVariable)
	if program == "" {
		b.Skip("no other build is given by " + beforeVariable)
	}
	s := newSite(b, 1)
	ours, before := s.startOurs(b), s.run(b, program, nil, s.settings())
	ours.awaitAddr(b)
	before.awaitAddr(b)
	for _, w := range workloads {
		b.Run(w.name, func(b *testing.B) {
			s.compare(b, side{"ours", ours, w}, side{"before", before, w}, 50)
		})
	}
}

// BenchmarkActivePortals is what a request takes if requests are for 10,000
// portals, instead of for one.
func BenchmarkActivePortals(b *testing.B) {
	const most = 10_000
	s := newSite(b, most)
	c := s.startOurs(b)
	c.awaitAddr(b)
	one, many := workloads[0], workloads[0]
	one.portals, many.portals = 1, most
	s.send(b, c, many, 50, most) // for all to be cached
	s.compare(b, side{"10000", c, many}, side{"1", c, one}, 50)
}

// side is what is compared with another.
type side struct {
	name string
	to   *child
	workload
}

const turns = 20

// compare sends b.N requests of each side, and reports the CPU that each one
// took, and the ratio.
func (s *site) compare(b *testing.B, this, that side, clients int) {
	n := max(clients, b.N/turns)
	took := make(map[string][]float64) // µs for each request
	sides := []side{this, that}
	for _, one := range sides {
		s.send(b, one.to, one.workload, clients, 10*clients) // for connections, and buffers to be there
	}
	b.ResetTimer()
	for range turns {
		slices.Reverse(sides)
		for _, one := range sides {
			before := one.to.cpu(b)
			s.send(b, one.to, one.workload, clients, n)
			took[one.name] = append(took[one.name], float64((one.to.cpu(b)-before).Nanoseconds())/1e3/float64(n))
		}
	}
	var ratios []float64
	for turn := range turns {
		ratios = append(ratios, took[this.name][turn]/took[that.name][turn])
	}
	b.ReportMetric(0, "ns/op") // of both together
	b.ReportMetric(median(took[this.name]), "µs-"+this.name+"/req")
	b.ReportMetric(median(took[that.name]), "µs-"+that.name+"/req")
	b.ReportMetric(median(ratios), "ratio")
}

func median(values []float64) float64 {
	slices.Sort(values)
	return (values[(len(values)-1)/2] + values[len(values)/2]) / 2
}

// site is what the proxies of a benchmark stand before: an upstream whose
// answers have as many bytes as the request says.
type site struct {
	upstream *httptest.Server
	dir      string // has the certificate of the upstream, the seed, and the programs
}

// The client key that the requests of benchmarks have, and the portal's token, which is as long as
// that of a private app.
const benchmarkKey, benchmarkToken = "hap_" + hubspottest.Canary + "-benchmark", "pat-na1-" + hubspottest.Canary + "-1a09-4e8f-6b5a49382716"

// newSite returns a site for proxies of portals 1 to n, of which the client may
// use all, or the one.
func newSite(b *testing.B, n int) *site {
	b.Helper()
	s := &site{upstream: httptest.NewTLSServer(http.HandlerFunc(answerBenchmark)), dir: b.TempDir()}
	b.Cleanup(s.upstream.Close)
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.upstream.Certificate().Raw})
	var seed strings.Builder
	rights := "'*'"
	if n == 1 {
		rights = "1"
	}
	fmt.Fprintf(&seed, "clients: [{name: benchmark, key: %s, portals: [%s]}]\nportals:\n", benchmarkKey, rights)
	for i := range n {
		fmt.Fprintf(&seed, "- {id: %d, access_token: %s-%[1]d}\n", i+1, benchmarkToken)
	}
	for name, text := range map[string]string{"ca.pem": string(certificate), "seed.yaml": seed.String()} {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	return s
}

// startOurs starts the program, with settings besides those that it needs.
func (s *site) startOurs(b *testing.B, settings ...string) *child {
	b.Helper()
	return s.start(b, "cmd/hubspot-auth-proxy", nil, append(s.settings(), settings...))
}

// settings returns the settings that the program needs.
func (s *site) settings() []string {
	return []string{
		"UPSTREAM_URL=" + s.upstream.URL, "SEED_FILE=" + filepath.Join(s.dir, "seed.yaml"),
		"LISTEN_ADDR=127.0.0.1:0", "ADMIN_ADDR=127.0.0.1:0", "ALLOW_ANONYMOUS=false", "LOG_FORMAT=json",
	}
}

// awaitAddr waits until the program has said where it listens.
func (c *child) awaitAddr(b *testing.B) {
	b.Helper()
	c.addr = c.printed.Until(b, `"the proxy is ready","address":"([^"]+)"`)[1]
}

// startPlain starts the plain ReverseProxy.
func (s *site) startPlain(b *testing.B) *child {
	b.Helper()
	c := s.start(b, "proxy/plain/cmd", []string{s.upstream.URL}, nil)
	c.addr = c.printed.Until(b, `(127\.0\.0\.1:\d+)\n`)[1]
	return c
}

// send sends n requests by so many clients at once.
func (s *site) send(b *testing.B, c *child, w workload, clients, n int) {
	b.Helper()
	left := atomic.Int64{}
	left.Store(int64(n))
	var sending sync.WaitGroup
	for range clients {
		sending.Go(func() {
			for i := left.Add(-1); i >= 0; i = left.Add(-1) {
				if err := c.once(w, int(i)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	sending.Wait()
}

// once sends request number i, as an SDK does, and reads its answer.
func (c *child) once(w workload, i int) error {
	prefix := ""
	if w.portals > 0 {
		prefix = "/portals/" + strconv.Itoa(i%w.portals+1)
	}
	var reader io.Reader
	if w.sent > 0 {
		reader = io.LimitReader(endless{}, int64(w.sent))
	}
	base := c.base
	if base == "" {
		base = "http://" + c.addr
	}
	address := fmt.Sprintf("%s%s/crm/v3/objects/contacts?limit=%d&archived=false", base, prefix, w.received)
	if w.chunked {
		address += "&chunked"
	}
	if w.unlimited {
		address += "&unlimited"
	}
	if w.latency > 0 {
		address += "&latency=" + w.latency.String()
	}
	request, err := http.NewRequest(w.method, address, reader)
	if err != nil {
		return err
	}
	request.ContentLength = int64(w.sent)
	request.Header = http.Header{
		"Accept": {"application/json"}, "Authorization": {"Bearer " + benchmarkKey}, "Content-Type": {"application/json"},
		"User-Agent": {"hubspot-api-client-nodejs; 14.0.1"}, "Accept-Encoding": {"gzip,deflate"},
	}
	response, err := c.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if n, err := io.Copy(io.Discard, response.Body); err != nil || n != int64(w.received) || response.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d, %d bytes, %v", response.StatusCode, n, err)
	}
	return nil
}

// endless is a body without end, of zeros.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// unlimitedCalls is the limit of a workload that is unlimited, in each second: the
// highest that a budget learns.
const unlimitedCalls = 10_000

// answerBenchmark answers as HubSpot does, as far as its headers go.
func answerBenchmark(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	n, _ := strconv.Atoi(r.URL.Query().Get("limit"))
	header := w.Header()
	maps.Copy(header, hubSpotHeader)
	if r.URL.Query().Has("unlimited") {
		header["X-Hubspot-Ratelimit-Interval-Milliseconds"] = []string{"1000"}
		header["X-Hubspot-Ratelimit-Max"] = []string{strconv.Itoa(unlimitedCalls)}
		header["X-Hubspot-Ratelimit-Remaining"] = []string{"9990"}
	}
	if latency, err := time.ParseDuration(r.URL.Query().Get("latency")); err == nil {
		<-time.After(latency)
	}
	header["Content-Length"] = []string{strconv.Itoa(n)}
	if r.URL.Query().Has("chunked") {
		delete(header, "Content-Length")
		header["Transfer-Encoding"] = []string{"chunked"}
	}
	_, _ = io.CopyN(w, endless{}, int64(n))
}

// hubSpotHeader is what HubSpot's answers have.
var hubSpotHeader = http.Header{
	"Content-Type":                     {"application/json;charset=utf-8"},
	"Server":                           {"cloudflare"},
	"Cf-Ray":                           {"8f0a1b2c3d4e5f60-FRA"},
	"Cf-Cache-Status":                  {"DYNAMIC"},
	"Strict-Transport-Security":        {"max-age=31536000; includeSubDomains; preload"},
	"Vary":                             {"origin, Accept-Encoding"},
	"Access-Control-Allow-Credentials": {"false"},
	"X-Content-Type-Options":           {"nosniff"},
	"X-Hubspot-Correlation-Id":         {"5f2d3c4b-1a09-4e8f-9d7c-6b5a49382716"},
	"X-Hubspot-Ratelimit-Interval-Milliseconds": {"10000"},
	"X-Hubspot-Ratelimit-Max":                   {"190"},
	"X-Hubspot-Ratelimit-Remaining":             {"187"},
	"X-Hubspot-Ratelimit-Secondly":              {"19"},
	"X-Hubspot-Ratelimit-Secondly-Remaining":    {"18"},
	"X-Envoy-Upstream-Service-Time":             {"31"},
	"X-Evy-Trace-Listener":                      {"listener_https"},
	"X-Request-Id":                              {"5f2d3c4b-1a09-4e8f-9d7c-6b5a49382716"},
	"Nel":                                       {`{"success_fraction":0.01,"report_to":"cf-nel","max_age":604800}`},
}
