package proxy

import (
	"io"
	"maps"
	"net/http"
	"strings"
	"sync"

	"hubspot-auth-proxy/proxy/wire"
	"hubspot-auth-proxy/tokens/secret"
)

// interim serializes the informational answers (1xx) to an HTTP/1.1 client that waits for
// 100 Continue before it sends its body.
//
// net/http's server sends 100 Continue when the body is first read, in the goroutine that
// reads, and without the lock of the other informational answers. If HubSpot's
// informational answer is sent at the same time, the connection is corrupted. So interim
// sends 100 Continue itself, before the body is read, and holds its own lock. Until the
// final answer ReverseProxy writes to header, because the server's own header map is not
// safe to use from both goroutines.
type interim struct {
	mu        sync.Mutex
	header    http.Header // of the answer, until it is final
	continued bool        // 100 Continue was sent
	final     bool        // the final answer has begun
}

const errNotContinued = secret.Fault("the final answer began before the client was asked for its body")

// awaitsContinue reports whether the client waits for 100 Continue, by the rules of
// net/http's server.
func awaitsContinue(r *http.Request) bool {
	if r.ProtoMajor != 1 || r.ProtoMinor < 1 || !hasBody(r) {
		return false
	}
	for expectation := range wire.Listed(r.Header["Expect"]) {
		if strings.EqualFold(expectation, "100-continue") {
			return true
		}
	}
	return false
}

// proceed sends 100 Continue, once, unless the final answer has begun. It
// reports whether the client's body may be read.
func (i *interim) proceed(w http.ResponseWriter) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.continued && !i.final {
		i.continued = true
		w.WriteHeader(http.StatusContinue)
	}
	return i.continued
}

// inform sends an informational answer other than 100 Continue.
func (i *interim) inform(w http.ResponseWriter, status int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	header := w.Header()
	maps.Copy(header, i.header)
	w.WriteHeader(status)
	clear(header)
}

// conclude begins the final answer: it copies header into the server's own.
func (i *interim) conclude(w http.ResponseWriter) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.final = true
	maps.Copy(w.Header(), i.header)
}

// awaitedBody is the body of a client that waits for 100 Continue.
type awaitedBody struct {
	io.ReadCloser
	interim *interim
	client  http.ResponseWriter
}

// Read implements io.Reader.
func (b awaitedBody) Read(p []byte) (int, error) {
	if !b.interim.proceed(b.client) {
		return 0, errNotContinued
	}
	return b.ReadCloser.Read(p)
}
