package proxy

import (
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

// newReverse returns what forwards a request whose context has its call, to the
// upstream.
func newReverse(upstream *url.URL, transport http.RoundTripper, faults *zap.Logger) *httputil.ReverseProxy {
	h := hooks{upstream, faults}
	return &httputil.ReverseProxy{
		Rewrite:        h.rewrite,
		Transport:      transport,
		ModifyResponse: modifyResponse,
		ErrorHandler:   h.answerError,
		BufferPool:     new(bufferPool),
		// What it would log quotes what it could not read of an answer, which may
		// be an echo of the credential. Answers that break off are logged at
		// their end.
		ErrorLog: log.New(io.Discard, "", 0),
	}
}

// hooks are what ReverseProxy calls.
type hooks struct {
	upstream *url.URL
	faults   *zap.Logger
}

// rewrite makes the request HubSpot's: with the bytes of the target and the header
// fields that the client sent, without credentials and what is meant for the proxy.
// ReverseProxy has taken out of both what some clients send on purpose.
func (h hooks) rewrite(r *httputil.ProxyRequest) {
	c := callOf(r.In.Context())
	c.target.Strip()
	r.Out.URL = c.target.URL(h.upstream)
	r.Out.Host = "" // the upstream's
	wire.ForwardHeader(r.Out.Header, r.In.Header, c.clientKey())
	c.announce()
}

// modifyResponse takes credentials out of HubSpot's answer, and has it flushed
// whenever HubSpot is waited for.
func modifyResponse(response *http.Response) error {
	c := callOf(response.Request.Context())
	c.response = response
	c.conceal(response.Header)
	switch {
	case c.tokenInfo:
		return c.withoutToken(response)
	case response.Body == http.NoBody:
		return nil
	}
	if response.ContentLength < 0 {
		// What came in chunks goes on in chunks. Else net/http's server would
		// give a short answer a length.
		response.Header["Transfer-Encoding"] = []string{"chunked"}
	}
	response.Body.(upstream.Body).OnWait(c.flush)
	return nil
}

// answerError answers a request that got no answer from HubSpot.
func (h hooks) answerError(rw http.ResponseWriter, r *http.Request, err error) {
	c := callOf(r.Context())
	if r.Context().Err() != nil {
		// Nobody is there to read an answer.
		panic(http.ErrAbortHandler)
	}
	refusal := refusalFor(c, err)
	if status := refusal.status(); status == http.StatusBadGateway || status == http.StatusGatewayTimeout {
		h.faults.Warn("no answer from HubSpot", zap.String("portal", c.portal),
			zap.String("category", refusal.category), zap.Error(secret.Cause(err)))
	}
	rw.(*reply).refuse(refusal)
}

// bufferPool has the buffers by which ReverseProxy copies answers.
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
