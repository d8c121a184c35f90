package proxy

import (
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"

	"go.uber.org/zap"

	"hubspot-auth-proxy/proxy/upstream"
	"hubspot-auth-proxy/proxy/wire"
	"hubspot-auth-proxy/tokens/secret"
)

// newReverse returns the ReverseProxy that forwards requests to the upstream. The context of
// each request must contain its call.
func newReverse(upstream *url.URL, transport http.RoundTripper, faults *zap.Logger) *httputil.ReverseProxy {
	h := hooks{upstream, faults}
	return &httputil.ReverseProxy{
		Rewrite:        h.rewrite,
		Transport:      transport,
		ModifyResponse: modifyResponse,
		ErrorHandler:   h.answerError,
		BufferPool:     new(bufferPool),
		// ReverseProxy's messages quote malformed answers, which may repeat the
		// credential. recorder logs answers that break off.
		ErrorLog: log.New(io.Discard, "", 0),
	}
}

// hooks are the functions that ReverseProxy calls.
type hooks struct {
	upstream *url.URL
	faults   *zap.Logger // throttled
}

// rewrite makes the request for HubSpot. It takes the target and the header fields from the
// client's request, because ReverseProxy has already changed them in r.Out, and leaves out
// credentials and the proxy's own headers.
func (h hooks) rewrite(r *httputil.ProxyRequest) {
	c := callOf(r.In.Context())
	c.target.Strip()
	r.Out.URL = c.target.URL(h.upstream)
	r.Out.Host = "" // the upstream's
	wire.ForwardHeader(r.Out.Header, r.In.Header, c.clientKey())
	c.recordTrailerNames()
}

// modifyResponse removes credentials from HubSpot's answer, and makes the answer's body flush
// the client's answer before a read of HubSpot's body would block.
func modifyResponse(response *http.Response) error {
	c := callOf(response.Request.Context())
	c.response = response
	c.conceal(response.Header)
	c.cleanTrailers(response.Trailer, "") // the names that ReverseProxy will announce
	switch {
	case c.tokenInfo:
		return c.withoutToken(response)
	case response.Body == http.NoBody:
		return nil
	}
	if response.ContentLength < 0 {
		// Keep a chunked answer chunked. Otherwise net/http's server would send a
		// short one with Content-Length.
		response.Header["Transfer-Encoding"] = []string{"chunked"}
	}
	response.Body.(upstream.Body).OnWait(c.flush)
	return nil
}

// answerError sends the proxy's own answer when there is none from HubSpot.
func (h hooks) answerError(rw http.ResponseWriter, r *http.Request, err error) {
	c := callOf(r.Context())
	if r.Context().Err() != nil || errors.Is(err, upstream.ErrTimeout) && rw.(*reply).clientLeft() {
		// The client has left.
		panic(http.ErrAbortHandler)
	}
	refusal := refusalFor(c, err)
	fields := []zap.Field{zap.String("portal", c.portal), zap.String("category", refusal.category)}
	switch refusal.status() {
	case http.StatusBadGateway, http.StatusGatewayTimeout:
		h.faults.Warn("no answer from HubSpot", append(fields, zap.Error(secret.Cause(err)))...)
	case http.StatusServiceUnavailable: // an UnavailableError, whose text contains no secret
		h.faults.Warn("a call gets 503, because its portal has no usable credential at the moment", append(fields, zap.Error(err))...)
	}
	rw.(*reply).refuse(refusal)
}

// refuse sends the refusal to the client.
func (a *reply) refuse(r *refusal) {
	a.call.refused, a.call.correlation = r.category, correlationID()
	r.setHeader(a.Header())
	a.WriteHeader(r.status())
	_, _ = a.Write(r.body(a.call.correlation))
	a.finished = true
}

// bufferPool provides the buffers with which ReverseProxy copies answers.
type bufferPool struct{ buffers sync.Pool }

const bufferSize = 32 << 10

// Get returns a buffer.
func (p *bufferPool) Get() []byte {
	if buffer, ok := p.buffers.Get().(*[bufferSize]byte); ok {
		return buffer[:]
	}
	return make([]byte, bufferSize)
}

// Put returns a buffer of Get to the pool.
func (p *bufferPool) Put(buffer []byte) { p.buffers.Put((*[bufferSize]byte)(buffer)) }
