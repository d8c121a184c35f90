package hubspottest

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
)

// serveAccepted answers a request whose credential is valid, by its path.
func (s *Server) serveAccepted(w http.ResponseWriter, r *http.Request, v verdict) {
	switch r.URL.Path {
	case "/fake/hang":
		s.hang(r)
		return
	case "/fake/reset":
		resetConnection(w)
		return
	}
	if h := s.handler.Load(); h != nil && (*h)(w, r, v.portal) {
		return
	}
	body := readBody(r)
	switch r.URL.Path {
	case "/account-info/v3/details", "/account-info/2026-03/details", "/account-info/2026-09/details":
		serveAccount(w, v)
	case "/fake/download":
		serveDownload(w, r)
	case "/fake/events":
		s.serveEvents(w, r)
	case "/fake/hints":
		serveHints(w)
	case "/fake/status":
		s.serveStatus(w, r, v)
	case "/fake/break":
		serveBreak(w, r)
	case "/fake/malformed":
		writeMalformed(w)
	default:
		writeEcho(w, r, v, body)
	}
}

// number returns a parameter of the query. If the parameter is not a number of at least
// least, number answers 400 and returns false.
func number(w http.ResponseWriter, r *http.Request, name string, least int64) (int64, bool) {
	n, err := strconv.ParseInt(r.URL.Query().Get(name), 10, 64)
	if err != nil || n < least {
		writeJSON(w, http.StatusBadRequest, otherStatus(http.StatusBadRequest))
		return 0, false
	}
	return n, true
}

func serveDownload(w http.ResponseWriter, r *http.Request) {
	n, ok := number(w, r, "bytes", 0)
	if !ok {
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	if r.URL.Query().Get("chunked") == "1" {
		flush(w) // otherwise net/http would set the length of a short body
	} else {
		w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
	}
	writePattern(w, n)
}

// writePattern writes n bytes, of which byte i is i mod 251. Because 251 is prime and the
// sizes of blocks are powers of two, a test notices a block that is lost, repeated or moved.
func writePattern(w io.Writer, n int64) {
	const blockSize = 128 * 251
	block := make([]byte, min(n, blockSize))
	for i := range block {
		block[i] = byte(i % 251)
	}
	for n > 0 {
		written, err := w.Write(block[:min(n, blockSize)])
		if err != nil {
			return
		}
		n -= int64(written)
	}
}

// NextEvent lets one stream of /fake/events send its next event. If no stream waits, the
// next stream that waits sends an event at once. NextEvent never blocks.
func (s *Server) NextEvent() {
	select {
	case s.events <- struct{}{}:
	default: // more calls are waiting than any test makes
	}
}

func (s *Server) serveEvents(w http.ResponseWriter, r *http.Request) {
	n, ok := number(w, r, "n", 1)
	if !ok {
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-cache")
	for i := range n {
		if i > 0 && !await(s, r, s.events) {
			s.left()
		}
		_, _ = fmt.Fprintf(w, "id: %d\ndata: {\"event\":%d}\n\n", i+1, i+1)
		flush(w)
	}
}

func serveHints(w http.ResponseWriter) {
	w.Header().Set("Link", "</style.css>; rel=preload; as=style")
	w.WriteHeader(http.StatusEarlyHints)
	w.Header().Del("Link")
	w.Header()["Content-Type"] = nil // if the entry were missing, net/http would guess a type
	w.WriteHeader(http.StatusOK)
	_, _ = io.WriteString(w, "<p>after the hints</p>")
}

func (s *Server) serveStatus(w http.ResponseWriter, r *http.Request, v verdict) {
	n, ok := number(w, r, "code", 200)
	if !ok {
		return
	}
	code := int(n)
	switch {
	case code > 999: // net/http would panic
		writeJSON(w, http.StatusBadRequest, otherStatus(http.StatusBadRequest))
	case code == http.StatusUnauthorized:
		s.write401(w, r, invalidCredential())
	case code == http.StatusTooManyRequests:
		h := w.Header()
		h.Set("X-Hubspot-Ratelimit-Interval-Milliseconds", "10000")
		h.Set("X-Hubspot-Ratelimit-Max", "110")
		h.Set("X-Hubspot-Ratelimit-Remaining", "0")
		h.Set("X-Hubspot-Ratelimit-Secondly", "11")
		h.Set("X-Hubspot-Ratelimit-Secondly-Remaining", "0")
		writeJSON(w, code, burstLimit(v.portal))
	default:
		writeJSON(w, code, otherStatus(code))
	}
}

func flush(w http.ResponseWriter) { _ = http.NewResponseController(w).Flush() }

// hang never answers. It first reads the request's body, because net/http can notice that an
// HTTP/1 client disconnects only after the body was read. With unread=1, hang does not read the
// body, and may wait until the server is closed.
func (s *Server) hang(r *http.Request) {
	if r.URL.Query().Get("unread") != "1" {
		_, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			s.left()
		}
	}
	await(s, r, chan struct{}(nil))
	s.left()
}

// left ends the handler of a request whose client has disconnected, and counts the request
// as cancelled unless Close has ended it.
func (s *Server) left() {
	select {
	case <-s.done:
	default:
		s.change(func(c *counts) { c.cancelled++ })
	}
	panic(http.ErrAbortHandler)
}

// resetConnection closes the connection with a RST.
func resetConnection(w http.ResponseWriter) {
	conn := hijack(w)
	raw := conn
	if secured, ok := raw.(*tls.Conn); ok {
		raw = secured.NetConn()
	}
	if tcp, ok := raw.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	// Closing the TLS connection first would send a close_notify.
	_ = raw.Close()
	_ = conn.Close()
}

// hijack takes over the connection. With HTTP/2, which does not allow that, hijack resets the
// stream and ends the handler.
func hijack(w http.ResponseWriter) net.Conn {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	return conn
}

// serveBreak breaks off in the middle of a body. Because of the reset, the client may lose
// bytes that it has not read yet.
func serveBreak(w http.ResponseWriter, r *http.Request) {
	n, ok := number(w, r, "bytes", 1)
	if !ok {
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.FormatInt(2*n, 10))
	writePattern(w, n)
	flush(w)
	resetConnection(w)
}

func writeMalformed(w http.ResponseWriter) {
	conn := hijack(w)
	_, _ = io.WriteString(conn, "HTTP/1.1 two hundred\r\nnot a header\r\n\r\n")
	_ = conn.Close()
}
