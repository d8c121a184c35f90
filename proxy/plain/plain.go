// Package plain has the proxy that benchmarks compare the program with: an
// httputil.ReverseProxy and an http.Transport, both tuned as their documentation
// recommends, and nothing else.
package plain

import (
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
)

// New returns a proxy to the scheme and host of upstream. The caller must close the
// idle connections of the proxy's transport.
func New(upstream *url.URL) *httputil.ReverseProxy {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true) // HTTP/1.1, because it costs less CPU than HTTP/2
	return &httputil.ReverseProxy{
		Rewrite:    func(r *httputil.ProxyRequest) { r.SetURL(upstream) },
		Transport:  &http.Transport{Protocols: protocols, MaxIdleConnsPerHost: 512, DisableCompression: true},
		BufferPool: new(bufferPool),
	}
}

type bufferPool struct{ buffers sync.Pool }

func (p *bufferPool) Get() []byte {
	if buffer, ok := p.buffers.Get().(*[32 << 10]byte); ok {
		return buffer[:]
	}
	return make([]byte, 32<<10)
}

func (p *bufferPool) Put(buffer []byte) { p.buffers.Put((*[32 << 10]byte)(buffer)) }
