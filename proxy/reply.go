package proxy

import (
	"maps"
	"net/http"
	"strconv"
	"sync/atomic"

	"hubspot-auth-proxy/proxy/wire"
)

// reply is the client's writer. It changes nothing of HubSpot's answer except
// what it must, and decides when bytes leave: when the answer has to be waited
// for, has ended, or is broken off. So what came in one piece leaves in one piece,
// and nothing that came is held back.
type reply struct {
	http.ResponseWriter
	call *call
	last *atomic.Bool // the connection ends with it

	interim *interim // nil: the client does not wait for 100 Continue

	status   int    // 0 until there is one
	bytes    int64  // of the body
	unsent   bool   // bytes of the answer may be in the server's buffers
	failed   bool   // the client does not take it
	finished bool   // and was not broken off
	limit    []byte // the beginning of a 429's body
}

// FlushError takes the place of the server's. ReverseProxy calls it after each part
// of a streamed answer, and so once for the end of an answer that has come whole.
// Nothing needs to be done: flush is called when the next part is not there yet.
func (a *reply) FlushError() error { return nil }

// flush sends what the client has not got yet.
func (a *reply) flush() {
	if a.unsent {
		a.unsent = false
		_ = http.NewResponseController(a.ResponseWriter).Flush()
	}
}

// Header implements http.ResponseWriter.
func (a *reply) Header() http.Header {
	if a.interim != nil && a.status == 0 {
		return a.interim.header
	}
	return a.ResponseWriter.Header()
}

// WriteHeader sends the header, of an informational answer (1xx) too.
func (a *reply) WriteHeader(status int) {
	if status < 200 {
		a.inform(status)
		return
	}
	if a.interim != nil {
		a.interim.conclude(a.ResponseWriter)
	}
	a.status, a.unsent = status, true
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
func (a *reply) inform(status int) {
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
func (a *reply) mustClose() bool {
	r := a.call.request
	return a.last.Load() || a.call.tunnelEnds() || r.ProtoMajor == 1 &&
		(a.call.unread() || len(r.TransferEncoding) > 0 || !r.ProtoAtLeast(1, 1))
}

// Write sends a part of the body.
func (a *reply) Write(p []byte) (int, error) {
	n, err := a.ResponseWriter.Write(p)
	a.bytes += int64(n)
	a.unsent = true
	a.keepLimit(p[:n])
	a.failed = a.failed || err != nil
	return n, err
}

// keepLimit keeps the beginning of a 429's body while it goes to the client,
// who need not wait for the policy to be known.
func (a *reply) keepLimit(p []byte) {
	if a.status == http.StatusTooManyRequests {
		a.limit = append(a.limit, p[:min(len(p), maxErrorBody-len(a.limit))]...)
	}
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
