package proxy

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"hubspot-auth-proxy/tokens/secret"
)

// errLate is that no header of an answer came in time, or that nothing of the
// request was taken for that long.
const errLate = secret.Fault("no header of an answer came in time")

// upstream sends requests to HubSpot: over HTTP/1.1, or over HTTP/2 if that is
// to be offered, and HubSpot takes it.
type upstream struct {
	http1 *http1
	http2 *http.Transport // nil: it is not offered
	only1 atomic.Bool     // HubSpot has not taken it
	log   *zap.Logger
}

func newUpstream(options Options, log *zap.Logger) *upstream {
	dial := newDialer(options)
	u := &upstream{
		http1: &http1{dial: dial.dial, patience: options.UpstreamTimeout, timed: flushInterval(options) > 0},
		log:   log,
	}
	if options.UpstreamHTTP2 && options.Upstream.Scheme == "https" {
		u.http2 = newHTTP2(dial)
	}
	return u
}

// newHTTP2 returns a transport of HTTP/2 and nothing else.
func newHTTP2(dial *dialer) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	return &http.Transport{
		DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial.http2(ctx) },
		Protocols:      protocols,
		// A connection that died without a word is found out in seconds, not
		// in the quarter of an hour that TCP takes.
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 5 * time.Second},
		IdleConnTimeout:        idleTime,
		ExpectContinueTimeout:  continueTime,
		MaxResponseHeaderBytes: maxHeader,
		// Else an answer would be decoded that the client wants encoded.
		DisableCompression: true,
	}
}

// RoundTrip implements http.RoundTripper, for requests whose context has a
// call.
func (u *upstream) RoundTrip(r *http.Request) (*http.Response, error) {
	if u.http2 == nil || u.only1.Load() {
		return u.http1.RoundTrip(r)
	}
	response, err := watched(u.http2, r, u.http1.patience)
	if !errors.Is(err, errNotHTTP2) {
		return response, err
	}
	if u.only1.CompareAndSwap(false, true) {
		u.log.Warn("HubSpot does not take HTTP/2: HTTP/1.1 is used until the next start")
	}
	again, err := renewed(r) // its body was closed, and not read
	if err != nil {
		return nil, err
	}
	return u.http1.RoundTrip(again)
}

func (u *upstream) closeIdle() {
	u.http1.idle.close()
	if u.http2 != nil {
		u.http2.CloseIdleConnections()
	}
}

// bufferPool has the buffers through which bodies are copied.
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
