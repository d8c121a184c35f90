//go:build unix

package proxy

import (
	"io"
	"net"
	"os"
	"syscall"
)

// receiver reads from a connection, and calls waits when there is nothing to
// read. Only so is it known that nothing has come: to ask net.Conn for what may
// be there already looks the same from outside.
type receiver struct {
	conn net.Conn
	raw  syscall.RawConn // nil: conn has none
	read *reading
}

// reading is what a call of receive is about.
type reading struct {
	waits func()
	into  []byte
	n     int
	err   error
	step  func(fd uintptr) bool // read.now, made once
}

func newReceiver(conn net.Conn, waits func()) receiver {
	r := receiver{conn: conn, read: &reading{waits: waits}}
	r.read.step = r.read.now
	if system, is := conn.(syscall.Conn); is {
		r.raw, _ = system.SyscallConn()
	}
	return r
}

// receive reads as net.Conn does. It is not for concurrent use.
func (r *receiver) receive(p []byte) (int, error) {
	if r.raw == nil {
		r.read.waits()
		return r.conn.Read(p)
	}
	r.read.into = p
	waited := r.raw.Read(r.read.step)
	r.read.into = nil
	n, err := r.read.n, r.read.err
	switch {
	case waited != nil:
		return 0, waited
	case err != nil:
		return 0, &net.OpError{Op: "read", Net: "tcp", Source: r.conn.LocalAddr(), Addr: r.conn.RemoteAddr(), Err: os.NewSyscallError("read", err)}
	case n == 0 && len(p) > 0:
		return 0, io.EOF
	}
	return n, nil
}

// now reads what is there, and reports whether that was anything.
func (r *reading) now(fd uintptr) (done bool) {
	for {
		r.n, r.err = syscall.Read(int(fd), r.into)
		switch r.err {
		case syscall.EINTR:
		case syscall.EAGAIN:
			r.waits()
			return false
		default:
			return true
		}
	}
}
