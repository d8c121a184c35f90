package proxy

import (
	"net"
	"net/http"
)

// breakOff ends an answer that is not complete. It sends what is buffered, because after a
// panic net/http's server drops that. The server then closes the connection, or resets the
// stream of HTTP/2.
//
// If the end of the connection is also the end of the body, a client would take that close
// for the end of a complete answer. breakOff then resets the connection.
func (a *reply) breakOff() {
	a.flush()
	if !a.endsWithConnection() {
		return
	}
	if conn, _, err := http.NewResponseController(a.ResponseWriter).Hijack(); err == nil {
		reset(conn)
	}
}

// endsWithConnection reports whether the answer has a body whose end is the end of the
// connection. To HTTP/1.1 clients net/http's server sends a body of unknown length in chunks.
func (a *reply) endsWithConnection() bool {
	r := a.call.request
	return a.status != 0 && r.ProtoMajor == 1 && !r.ProtoAtLeast(1, 1) && a.Header().Get("Content-Length") == ""
}

// reset closes a connection so that its end is an error for the client: the system sends
// RST, and TLS sends no close_notify. Bytes that the system has not transmitted yet are lost.
func reset(conn net.Conn) {
	below := conn
	for {
		wrapper, ok := below.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		below = wrapper.NetConn()
	}
	if tcp, ok := below.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
		_ = tcp.Close() // first, so that TLS cannot send anything
	}
	_ = conn.Close()
}
