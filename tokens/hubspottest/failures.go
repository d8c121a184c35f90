package hubspottest

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strconv"
)

// hang never answers. It reads the request body first, because net/http sees
// an HTTP/1 client leave only after that; asked not to, it may see it only at
// Close.
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

// left ends the handler of a client that left, and counts it, unless it was
// Close that ended the request.
func (s *Server) left() {
	select {
	case <-s.done:
	default:
		s.change(func(c *counts) { c.cancelled++ })
	}
	panic(http.ErrAbortHandler)
}

// resetConnection makes the client see a reset rather than an orderly end.
func resetConnection(w http.ResponseWriter) {
	conn := hijack(w)
	raw := conn
	if secured, ok := raw.(*tls.Conn); ok {
		raw = secured.NetConn()
	}
	if tcp, ok := raw.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	// The connection below TLS: closing TLS says goodbye first.
	_ = raw.Close()
	_ = conn.Close()
}

// hijack takes the connection. HTTP/2 has none to take: there it resets the
// stream and ends the handler.
func hijack(w http.ResponseWriter) net.Conn {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	return conn
}

// serveBreak breaks off in the middle of a body. The reset may overtake bytes
// that the client has not read yet.
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
