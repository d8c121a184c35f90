package proxy

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"hubspot-auth-proxy/proxy/wire"
	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/secret"
)

// answer is the way back to the client. It changes nothing of HubSpot's answer
// but what it must.
type answer struct {
	http.ResponseWriter
	call *call
	last *atomic.Bool // the connection ends with it

	interim *interim // nil: the client does not wait for 100 Continue

	status int    // 0 until there is one
	bytes  int64  // of the body
	failed bool   // the client does not take it
	limit  []byte // the beginning of a 429's body
}

// takeOver makes the header of HubSpot's answer the client's, without what
// concerns one connection only, and without credentials. Nothing is left for
// ReverseProxy to copy and edit, value by value.
func (a *answer) takeOver(response *http.Response) {
	header, forms := a.Header(), a.call.forms()
	for name, values := range response.Header {
		if !wire.HopByHop(name) && !conceal(name, values, forms) {
			header[name] = values
		}
	}
	for name := range wire.Listed(response.Header["Connection"]) {
		delete(header, http.CanonicalHeaderKey(name))
	}
	response.Header = nil
	if a.call.conn == nil || response.Body == http.NoBody {
		return
	}
	if body, is := response.Body.(*errorBody); is {
		body.onWait = a.flush // the connection may be read by another goroutine
	} else {
		a.call.conn.answer = a
	}
	if response.ContentLength < 0 {
		// ReverseProxy need not flush each part, nor the server find a length.
		response.ContentLength = 0
		header["Transfer-Encoding"] = []string{"chunked"}
	}
}

// flush sends what the client has not got yet.
func (a *answer) flush() { _ = http.NewResponseController(a.ResponseWriter).Flush() }

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// Header implements http.ResponseWriter.
func (a *answer) Header() http.Header {
	if a.interim != nil && a.status == 0 {
		return a.interim.header
	}
	return a.ResponseWriter.Header()
}

// WriteHeader sends the header, of an informational answer (1xx) too.
func (a *answer) WriteHeader(status int) {
	if status < 200 {
		a.inform(status)
		return
	}
	if a.interim != nil {
		a.interim.conclude(a.ResponseWriter)
	}
	a.status = status
	header := a.Header()
	if _, has := header["Content-Type"]; !has {
		header["Content-Type"] = nil // else the server makes one up
	}
	if a.mustClose() {
		header.Set("Connection", "close") // over HTTP/2 the server says GOAWAY
	}
	if a.call.debug {
		a.call.explain(header)
	}
	a.ResponseWriter.WriteHeader(status)
}

// inform sends an informational answer.
func (a *answer) inform(status int) {
	if status == http.StatusContinue {
		// Over HTTP/2, the server sends its own as the body is read, which
		// HubSpot's 100 lets the transport do: the client would get both.
		if a.interim != nil {
			a.interim.proceed(a.ResponseWriter)
		}
		return
	}
	header := a.Header()
	// ReverseProxy takes nothing out of informational answers.
	maps.DeleteFunc(header, func(name string, _ []string) bool { return wire.HopByHop(name) })
	a.call.conceal(header)
	if a.interim != nil {
		a.interim.inform(a.ResponseWriter, status)
		return
	}
	a.ResponseWriter.WriteHeader(status)
}

// mustClose reports whether the connection must end with this answer: because
// the server is about to, because bytes of the body that are still to come would
// be taken for a request, or because the request may have had a Content-Length
// beside its chunked body, which net/http does not tell (RFC 9112 section 6.3).
// Nor does it tell of HTTP/1.0 with a chunked body, which it takes for none
// (section 6.1).
func (a *answer) mustClose() bool {
	r := a.call.request
	return a.last.Load() || a.call.tunnelEnds() || r.ProtoMajor == 1 &&
		(a.call.unread() || len(r.TransferEncoding) > 0 || !r.ProtoAtLeast(1, 1))
}

// Write sends a part of the body.
func (a *answer) Write(p []byte) (int, error) {
	n, err := a.ResponseWriter.Write(p)
	a.bytes += int64(n)
	a.keepLimit(p[:n])
	a.failed = a.failed || err != nil
	return n, err
}

// answeredBy returns who made the answer. It is nobody if the client left
// before there was one.
func (a *answer) answeredBy() string {
	switch {
	case a.status == 0:
		return "nobody"
	case a.call.refused != "", a.call.connected:
		return "proxy"
	}
	return "hubspot"
}

// explain adds the headers that a person with curl has asked for.
func (c *call) explain(header http.Header) {
	if c.portal != "" {
		header.Set("X-Hubspot-Auth-Proxy-Portal", c.portal)
	}
	if len(c.used) > 0 {
		header.Set("X-Hubspot-Auth-Proxy-Credential", string(c.used[len(c.used)-1].Kind))
	}
	header.Set("X-Hubspot-Auth-Proxy-Attempts", strconv.Itoa(c.attempts))
	if timing := c.spans.String(); timing != "" {
		header.Add("Server-Timing", timing)
	}
}

// String returns the spans as Server-Timing has them, in milliseconds
// (https://www.w3.org/TR/server-timing/).
func (s spans) String() string {
	var parts []string
	add := func(name string, d time.Duration) {
		if d > 0 {
			parts = append(parts, fmt.Sprintf("%s;dur=%.3f", name, float64(d)/float64(time.Millisecond)))
		}
	}
	add("credential", s.credential)
	add("renewal", s.renewal)
	add("hubspot", s.upstream)
	return strings.Join(parts, ", ")
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
	rw.(*answer).refuse(refusal)
}

// refusalFor tells what to answer when there is an error instead of HubSpot's
// answer.
func refusalFor(c *call, err error) *refusal {
	var ended *tokens.EndedError
	var unavailable *tokens.UnavailableError
	switch {
	case errors.Is(err, tokens.ErrNotConnected):
		return portalNotConnected(c.portal)
	case errors.As(err, &ended):
		return portalEnded(ended)
	case errors.As(err, &unavailable):
		return credentialUnavailable(unavailable)
	case c.body != nil && c.body.failure() != nil:
		return bodyInvalid()
	case errors.Is(err, errLate): // timeouts of connecting are another matter
		return upstreamTimeout()
	default:
		return upstreamUnreachable()
	}
}
