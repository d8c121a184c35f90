package upstream

import (
	"bufio"
	"cmp"
	"errors"
	"io"
	"net/http"
	"net/http/httputil"
	"strconv"
	"strings"
	"time"

	"hubspot-auth-proxy/proxy/wire"
)

var (
	errNotAskedFor = errors.New("the server has not asked for the body")
	errLength      = errors.New("the request's body is not as long as its Content-Length")
)

// send sends the request: with a body it only begins to, for the answer may come
// before the body's end.
func (e *exchange) send() error {
	writeHeader(e.to, e.request)
	if e.request.Body == nil {
		return e.finish(e.flush())
	}
	for coding := range wire.Listed(e.request.Header["Expect"]) {
		if strings.EqualFold(coding, "100-continue") {
			e.proceed = make(chan bool, 1)
		}
	}
	e.sent = make(chan struct{})
	go e.sendBody()
	return nil
}

// finish notes that the request has been sent, or why it was not.
func (e *exchange) finish(err error) error {
	e.raw.expectHeader(e.direct.timeout)
	return err
}

// sendBody sends the body. If that fails because the server does not take it, the
// answer may tell why.
func (e *exchange) sendBody() {
	gathered := e.direct.buffers.get()
	e.raw.gather(gathered)
	unread := e.writeBody()
	_ = e.request.Body.Close()
	e.failure = e.finish(errors.Join(unread, e.flush()))
	e.raw.gather(nil)
	e.direct.buffers.put(gathered)
	// A body that is not wanted, or was closed, has its answer already, which is
	// read on.
	cut := unread != nil && unread != errNotAskedFor && !(unread == http.ErrBodyReadAfterClose && e.raw.answered.Load())
	close(e.sent)
	if cut || e.raw.stalled.Load() {
		_ = e.conn.Close()
	}
}

// writeBody copies the body. Its error is one of reading it; those of writing it
// stay with the writer.
func (e *exchange) writeBody() error {
	r := e.request
	if e.proceed != nil || r.ContentLength < 0 {
		// The body may be long in coming. Where the header does not get through,
		// it is left for the next connection.
		if e.flush() != nil {
			return nil
		}
	}
	if e.proceed != nil {
		timeout := time.NewTimer(continueTimeout)
		defer timeout.Stop()
		select {
		case asked := <-e.proceed:
			if !asked {
				return errNotAskedFor
			}
		case <-timeout.C:
		}
	}
	if r.ContentLength >= 0 {
		return e.copyBody(e.to, r.ContentLength)
	}
	chunks := httputil.NewChunkedWriter(e.to)
	if err := e.copyBody(chunks, -1); err != nil {
		return err
	}
	_ = chunks.Close()
	writeFields(e.to, r.Trailer)
	_, _ = e.to.WriteString("\r\n")
	return nil
}

// overhead is more than a chunk and the two records of TLS add that a buffer is
// sent as (RFC 8446 section 5.2), in bytes.
const overhead = 100

// copyBody copies the body of that length, -1 if it is not known, as it comes.
func (e *exchange) copyBody(to io.Writer, length int64) error {
	buffer := e.direct.buffers.get()
	defer e.direct.buffers.put(buffer)
	for copied := int64(0); ; {
		n, err := e.request.Body.Read(buffer[:bufferSize-overhead])
		copied += int64(n)
		if length >= 0 && copied > length {
			return errLength // the rest would be taken for a request
		}
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				return nil // the writer's, that is
			}
		}
		switch {
		case err == io.EOF && copied < length:
			return errLength
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
		if e.flush() != nil {
			return nil
		}
	}
}

// writeHeader writes the request's header (RFC 9112 section 3). Its errors stay
// with the writer.
func writeHeader(w *bufio.Writer, r *http.Request) {
	for _, text := range []string{r.Method, " ", r.URL.RequestURI(), " HTTP/1.1\r\nHost: ", cmp.Or(r.Host, r.URL.Host), "\r\n"} {
		_, _ = w.WriteString(text)
	}
	_, sized := r.Header["Content-Length"]
	switch {
	case r.Body != nil && r.ContentLength < 0:
		writeField(w, "Transfer-Encoding", "chunked")
		for name := range r.Trailer {
			writeField(w, "Trailer", name)
		}
	case r.Body != nil || sized || r.Method == http.MethodPost || r.Method == http.MethodPut || r.Method == http.MethodPatch:
		// These mean something by a body that is not there (RFC 9110 section 8.6).
		writeField(w, "Content-Length", strconv.FormatInt(max(r.ContentLength, 0), 10))
	}
	writeFields(w, r.Header)
	_, _ = w.WriteString("\r\n")
}

// writeFields writes a header, but what tells where the body ends, and the
// client's Host, which net/http's server leaves there over HTTP/2.
func writeFields(w *bufio.Writer, header http.Header) {
	for name, values := range header {
		switch name {
		case "Host", "Content-Length", "Transfer-Encoding", "Trailer":
			continue
		}
		for _, value := range values {
			writeField(w, name, value)
		}
	}
}

func writeField(w *bufio.Writer, name, value string) {
	_, _ = w.WriteString(name)
	_, _ = w.WriteString(": ")
	// Nothing but a line's end could be taken for one. net/http's server lets
	// none of these through but in trailers.
	if strings.IndexByte(value, '\r') >= 0 || strings.IndexByte(value, '\n') >= 0 {
		value = oneLine.Replace(value)
	}
	_, _ = w.WriteString(value)
	_, _ = w.WriteString("\r\n")
}

var oneLine = strings.NewReplacer("\r", " ", "\n", " ")
