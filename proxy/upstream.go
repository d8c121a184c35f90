package proxy

import (
	"net"
	"net/http"
	"sync"
	"time"
)

// newUpstream returns the transport of all requests to HubSpot.
func newUpstream(options Options) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(options.UpstreamHTTP2)
	return &http.Transport{
		// HTTPS_PROXY is honoured, as everywhere in Go.
		Proxy:       http.ProxyFromEnvironment,
		DialContext: settledDial((&net.Dialer{Timeout: 10 * time.Second}).DialContext),

		TLSClientConfig:     options.UpstreamTLS,
		TLSHandshakeTimeout: 10 * time.Second,
		Protocols:           protocols,
		// A connection that died without a word is found out in seconds, not
		// in the quarter of an hour that TCP takes.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 5 * time.Second},

		// With the default of two, fifty clients open a new connection for
		// nearly every request.
		MaxIdleConnsPerHost: 512,
		// Shorter than the edge's own, so that few requests meet a connection
		// that is being closed.
		IdleConnTimeout: 60 * time.Second,

		ResponseHeaderTimeout:  options.UpstreamTimeout,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: 1 << 20,
		// Else an answer would be decoded that the client wants encoded.
		DisableCompression: true,
	}
}

// bufferPool has the buffers through which answers are copied.
type bufferPool struct{ buffers sync.Pool }

const bufferSize = 32 << 10

// Get returns a buffer.
func (p *bufferPool) Get() []byte {
	if buffer, ok := p.buffers.Get().(*[bufferSize]byte); ok {
		return buffer[:]
	}
	return make([]byte, bufferSize)
}

// Put takes a buffer back that Get returned.
func (p *bufferPool) Put(buffer []byte) { p.buffers.Put((*[bufferSize]byte)(buffer)) }
