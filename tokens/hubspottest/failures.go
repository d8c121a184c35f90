package hubspottest

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strconv"
)

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
