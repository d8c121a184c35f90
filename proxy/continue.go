package proxy

import (
	"errors"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync"

	"hubspot-auth-proxy/proxy/wire"
)

// interim is the state of an HTTP/1.1 answer whose client waits for 100 Continue
// before it sends its body.
//
// net/http's server sends that by itself when the body is first read, in the
// goroutine that reads, and without the lock of informational answers: together
// with one of HubSpot's, that corrupts the connection. So interim sends it
// before the body is read, and no two answers at once. Until the final answer,
// header stands in for the server's own, which both would touch.
type interim struct {
	mu        sync.Mutex
	header    http.Header
	continued bool // 100 Continue was sent
	final     bool // the final answer has begun
}

var errNotContinued = errors.New("the final answer was given before the client was asked for its body")

// awaitsContinue reports whether net/http's server would send 100 Continue.
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

// conclude makes the header the server's own, for the final answer.
func (i *interim) conclude(w http.ResponseWriter) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.final = true
	maps.Copy(w.Header(), i.header)
}

// awaitedBody is the body of a client that waits for 100 Continue.
type awaitedBody struct {
	io.ReadCloser
	reply *reply
}

// Read implements io.Reader.
func (b awaitedBody) Read(p []byte) (int, error) {
	if !b.reply.interim.proceed(b.reply.ResponseWriter) {
		return 0, errNotContinued
	}
	return b.ReadCloser.Read(p)
}
