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
	"hubspot-auth-proxy/tokens/secret"
)

const (
	errBodyNotRequested = secret.Fault("the server has not asked for the body")
	errBodyLength       = secret.Fault("the request's body is not as long as its Content-Length")
)

// send sends a request without a body. For a request with a body, send writes the header
// and starts a goroutine that sends the body, because the answer may come before the
// body's end.
func (e *exchange) send() error {
	e.takeWriter()
	writeHeader(e.to, e.request)
	if e.request.Body == nil {
		err := e.flush()
		e.putWriter()
		return e.finish(err)
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

// takeWriter gives the exchange a buffer to write to. The exchange has it only while it
// sends, because many requests may wait for an answer at the same time.
func (e *exchange) takeWriter() {
	var reused bool
	if e.to, reused = e.direct.writers.Get().(*bufio.Writer); reused {
		e.to.Reset(e.Conn)
		return
	}
	e.to = bufio.NewWriter(e.Conn)
}

// putWriter gives the buffer back.
func (e *exchange) putWriter() {
	e.to.Reset(nil)
	e.direct.writers.Put(e.to)
	e.to = nil
}

// flush sends everything that is buffered for writing.
func (e *exchange) flush() error { return errors.Join(e.to.Flush(), e.raw.flush()) }

// finish starts the time limit for the answer's header, and returns err.
func (e *exchange) finish(err error) error {
	e.raw.expectHeader(e.direct.timeout)
	return err
}

// sendBody sends the body. If the server refuses to read the body, the connection
// stays open, because the server's answer may give the reason.
func (e *exchange) sendBody() {
	gathered := e.direct.buffers.get()
	e.raw.gather(gathered)
	readErr := e.writeBody()
	_ = e.request.Body.Close()
	e.failure = e.finish(errors.Join(readErr, e.flush()))
	e.putWriter()
	e.raw.gather(nil)
	e.direct.buffers.put(gathered)
	// If the server did not ask for the body, or the body was closed after the answer
	// began, the answer is still being read: keep the connection open for it.
	answerGoesOn := readErr == errBodyNotRequested || readErr == http.ErrBodyReadAfterClose && e.raw.answered.Load()
	close(e.sent)
	if readErr != nil && !answerGoesOn || e.raw.stalled.Load() {
		_ = e.conn.Close()
	}
}

// writeBody writes the body. It returns only errors of reading the body; flush returns
// the errors of writing.
func (e *exchange) writeBody() error {
	r := e.request
	if e.proceed != nil || r.ContentLength < 0 {
		// The client may send the body slowly, so send the header now. If that
		// fails, leave the body unread, for a repetition on a new connection.
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
				return errBodyNotRequested
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

// overhead is an upper bound, in bytes, of what chunked encoding and two TLS records
// (RFC 8446 section 5.2) add to a buffer. So each buffer read fits into one gathered
// buffer.
const overhead = 100

// copyBody copies the request's body, and flushes after each read. A length of -1 means
// unknown. It returns only errors of reading.
func (e *exchange) copyBody(to io.Writer, length int64) error {
	buffer := e.direct.buffers.get()
	defer e.direct.buffers.put(buffer)
	for copied := int64(0); ; {
		piece, err := next(e.request.Body, buffer[:bufferSize-overhead])
		copied += int64(len(piece))
		if length >= 0 && copied > length {
			return errBodyLength // the server would parse the surplus as another request
		}
		if len(piece) > 0 {
			if _, err := to.Write(piece); err != nil {
				return nil // flush returns this error
			}
		}
		switch {
		case err == io.EOF && copied < length:
			return errBodyLength
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

// next returns the next bytes of a body. They are in the body's own memory if it has a
// method Next, as package replay's readers have, otherwise in buffer.
func next(body io.Reader, buffer []byte) ([]byte, error) {
	if pieces, ok := body.(interface {
		Next(buffer []byte) ([]byte, error)
	}); ok {
		return pieces.Next(buffer)
	}
	n, err := body.Read(buffer)
	return buffer[:n], err
}

// writeHeader writes the request's header (RFC 9112 section 3). Flush returns the
// errors of writing.
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
		// These methods expect a body, so an empty one needs Content-Length: 0 (RFC
		// 9110 section 8.6).
		writeField(w, "Content-Length", strconv.FormatInt(max(r.ContentLength, 0), 10))
	}
	writeFields(w, r.Header)
	_, _ = w.WriteString("\r\n")
}

// writeFields writes all fields of a header, except those that frame the body, which
// writeHeader writes, and the client's Host, which net/http's server keeps in the
// header of an HTTP/2 request.
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
	// A line break would start another field. net/http's server rejects line breaks in
	// a request's header, and accepts them in trailers.
	if strings.IndexByte(value, '\r') >= 0 || strings.IndexByte(value, '\n') >= 0 {
		value = lineBreaks.Replace(value)
	}
	_, _ = w.WriteString(value)
	_, _ = w.WriteString("\r\n")
}

var lineBreaks = strings.NewReplacer("\r", " ", "\n", " ")
