package proxy

import (
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"sync"

	"go.uber.org/zap"

	"hubspot-auth-proxy/proxy/upstream"
	"hubspot-auth-proxy/proxy/wire"
	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/secret"
)

// newReverse returns what forwards a request whose context has its call.
func (p *Proxy) newReverse() *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Rewrite: p.rewrite,
		Transport: &authenticate{
			credentials: p.options.Credentials,
			upstream:    p.upstream,
			memory:      p.memory,
			bodyLimit:   p.options.RetryBodyLimit,
			metrics:     p.metrics,
		},
		ModifyResponse: modifyResponse,
		ErrorHandler:   p.answerError,
		BufferPool:     new(bufferPool),
		// What it would log quotes what it could not read of an answer, which may
		// be an echo of the credential. Answers that break off are logged at
		// their end.
		ErrorLog: log.New(io.Discard, "", 0),
	}
}

// rewrite makes the request HubSpot's: with the bytes of the target and the header
// fields that the client sent, without credentials and what is meant for the proxy.
// ReverseProxy has taken out of both what some clients send on purpose.
func (p *Proxy) rewrite(r *httputil.ProxyRequest) {
	c := callOf(r.In.Context())
	c.target.Strip()
	r.Out.URL = c.target.URL(p.options.Upstream)
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
func (p *Proxy) answerError(rw http.ResponseWriter, r *http.Request, err error) {
	c := callOf(r.Context())
	if r.Context().Err() != nil {
		// Nobody is there to read an answer.
		panic(http.ErrAbortHandler)
	}
	refusal := refusalFor(c, err)
	if status := refusal.status(); status == http.StatusBadGateway || status == http.StatusGatewayTimeout {
		p.faults.Warn("no answer from HubSpot", zap.String("portal", c.portal),
			zap.String("category", refusal.category), zap.Error(secret.Cause(err)))
	}
	rw.(*reply).refuse(refusal)
}

// refusalFor returns the proxy's own answer to a request that ended in the error.
func refusalFor(c *call, err error) *refusal {
	var ended *tokens.EndedError
	var unavailable *tokens.UnavailableError
	switch {
	case errors.Is(err, tokens.ErrNotConnected):
		return portalNotConnected(c.portal)
	case errors.As(err, &ended):
		return portalEnded(ended)
	case errors.As(err, &unavailable) && errors.As(err, new(*tokens.AppMismatchError)):
		return appMismatch(c.portal, unavailable.RetryAfter)
	case errors.As(err, &unavailable):
		return credentialUnavailable(unavailable)
	case c.body != nil && c.body.Failure() != nil:
		return bodyInvalid()
	case errors.Is(err, upstream.ErrTimeout): // timeouts of connecting are another matter
		return upstreamTimeout()
	default:
		return upstreamUnreachable()
	}
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
