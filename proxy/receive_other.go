//go:build !unix

package proxy

import "net"

// receiver reads from a connection, and calls waits before it does. What the
// system has already is not told apart here.
type receiver struct {
	conn  net.Conn
	waits func()
}

func newReceiver(conn net.Conn, waits func()) receiver { return receiver{conn, waits} }

func (r *receiver) receive(p []byte) (int, error) {
	r.waits()
	return r.conn.Read(p)
}
