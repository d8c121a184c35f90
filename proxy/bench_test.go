package proxy_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"testing"

	"hubspot-auth-proxy/proxy"
	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspottest"
)

// benchmarkBody is what the upstream of the benchmarks answers.
var benchmarkBody = bytesOf(2<<10, 0)

func answerBenchmark(w http.ResponseWriter, q *http.Request) {
	_, _ = io.Copy(io.Discard, q.Body)
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(benchmarkBody)
}

// BenchmarkProxy is the proxy as it is shipped, but for its access log.
func BenchmarkProxy(b *testing.B) {
	set, _ := upstream(b, answerBenchmark)
	r := start(b, setup{proxy: func(o *proxy.Options) {
		set(o)
		o.AccessLog = false
	}})
	r.seed(portalID, tokens.AccessToken, hubspottest.Canary+"-static")
	benchmarkThrough(b, r.client, r.url(""))
}

// BenchmarkPlainReverseProxy is what net/http/httputil takes for the same.
func BenchmarkPlainReverseProxy(b *testing.B) {
	server := httptest.NewServer(http.HandlerFunc(answerBenchmark))
	defer server.Close()
	target, err := url.Parse(server.URL)
	if err != nil {
		b.Fatal(err)
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 512, DisableCompression: true}
	defer transport.CloseIdleConnections()
	plain := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite:   func(q *httputil.ProxyRequest) { q.SetURL(target) },
		Transport: transport,
	})
	defer plain.Close()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true}}
	defer client.CloseIdleConnections()
	benchmarkThrough(b, client, plain.URL)
}

func benchmarkThrough(b *testing.B, client *http.Client, address string) {
	post := bytesOf(1<<10, 0)
	for _, method := range []string{"GET", "POST"} {
		b.Run(method, func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(loop *testing.PB) {
				for loop.Next() {
					var body io.Reader
					if method == "POST" {
						body = bytes.NewReader(post)
					}
					if err := once(client, method, address+"/crm/v3/objects/contacts", body); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}

// once sends one request and reads its answer.
func once(client *http.Client, method, address string, body io.Reader) error {
	request, err := http.NewRequest(method, address, body)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if n, err := io.Copy(io.Discard, response.Body); err != nil || n != int64(len(benchmarkBody)) || response.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d, %d bytes, %v", response.StatusCode, n, err)
	}
	return nil
}
