package proxy

import (
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"

	"hubspot-auth-proxy/proxy/wire"
)

// reply is the http.ResponseWriter for the client's answer. It decides when buffered bytes
// are sent: before the proxy waits for more of HubSpot's answer, when the answer has ended,
// and when it is broken off. So bytes that arrived together are sent together, and no byte
// is held back.
type reply struct {
	http.ResponseWriter
	call     *call
	stopping *atomic.Bool // true means that this answer must close its connection

	interim *interim // nil if the client does not wait for 100 Continue

	status   int    // 0 before the final header
	bytes    int64  // written bytes of the body
	unsent   bool   // the server may have buffered bytes of the answer
	failed   bool   // writing to the client failed, or the client left
	finished bool   // the answer was not broken off
	problem  []byte // beginning of an error's body
}

// FlushError does nothing. ReverseProxy calls it after each part of a streamed answer. reply
// flushes later instead, when the next part has not arrived yet.
func (a *reply) FlushError() error { return nil }

// flush sends buffered bytes to the client.
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

// WriteHeader sends a final header or an informational answer (1xx).
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
		header["Content-Type"] = nil // otherwise the server would guess one
	}
	if status == http.StatusNotModified && a.call.request.ProtoMajor == 1 {
		describeUnmodified(header)
	}
	if a.mustClose() {
		header.Set("Connection", "close") // over HTTP/2 the server sends GOAWAY
	}
	if a.call.debug {
		a.call.explain(header)
	}
	a.ResponseWriter.WriteHeader(status)
}

// describeUnmodified keeps the fields of a 304 that describe what was not modified (RFC 9110
// sections 8.6 and 15.4.5). net/http's server removes them from HTTP/1 answers under their
// canonical names only.
func describeUnmodified(header http.Header) {
	for _, name := range []string{"Content-Length", "Content-Type"} {
		if values := header[name]; values != nil {
			delete(header, name)
			header[strings.ToLower(name)] = values
		}
	}
}

// inform sends an informational answer.
func (a *reply) inform(status int) {
	if status == http.StatusContinue {
		// Over HTTP/2 the server sends 100 Continue itself when the body is read, and
		// HubSpot's 100 starts that. Forwarding HubSpot's would send two.
		if a.interim != nil {
			a.interim.proceed(a.ResponseWriter)
		}
		return
	}
	if r := a.call.request; r.ProtoMajor == 1 && !r.ProtoAtLeast(1, 1) {
		return // an HTTP/1.0 client would take it for the final answer (RFC 9110 section 15.2)
	}
	header := a.Header()
	wire.RemoveHopByHop(header) // ReverseProxy does not, in an informational answer
	a.call.conceal(header)
	if a.interim != nil {
		a.interim.inform(a.ResponseWriter, status)
		return
	}
	a.ResponseWriter.WriteHeader(status)
}

// mustClose reports whether this answer must close the connection. The reasons are:
//   - The server is about to shut down.
//   - The tunnel must end.
//   - The client may still send bytes of the body. The server would parse them as the next
//     request.
//   - The body is chunked, and the request may also have had a Content-Length, which
//     net/http does not report (RFC 9112 section 6.3).
//   - The request is HTTP/1.0, and may have had a chunked body, which net/http ignores
//     (section 6.1).
func (a *reply) mustClose() bool {
	r := a.call.request
	return a.stopping.Load() || a.call.tunnelEnds() || r.ProtoMajor == 1 &&
		(a.call.unread() || len(r.TransferEncoding) > 0 || !r.ProtoAtLeast(1, 1))
}

// Write sends a part of the body.
func (a *reply) Write(p []byte) (int, error) {
	n, err := a.ResponseWriter.Write(p)
	a.bytes += int64(n)
	a.unsent = true
	a.keepError(p[:n])
	a.failed = a.failed || err != nil
	return n, err
}

// keepsError reports whether the beginning of the body is kept, which says what
// HubSpot refuses. A 404 is no refusal.
func (a *reply) keepsError() bool {
	return a.status >= http.StatusBadRequest && a.status != http.StatusNotFound && a.call.refused == ""
}

// maxOtherError is the number of bytes that are kept of an error's body, except of a
// 429's.
const maxOtherError = 8 << 10

// keepError keeps the beginning of an error's body while the body is sent to the
// client.
func (a *reply) keepError(p []byte) {
	if !a.keepsError() {
		return
	}
	most := maxOtherError
	if a.status == http.StatusTooManyRequests {
		most = maxErrorBody
	}
	a.problem = append(a.problem, p[:min(len(p), max(0, most-len(a.problem)))]...)
}

// explain adds the debug headers.
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
