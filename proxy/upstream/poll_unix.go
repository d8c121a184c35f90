//go:build unix

package upstream

import (
	"io"
	"net"
	"syscall"
)

// canPoll reports whether poller can return a function on this platform.
const canPoll = true

// poller returns a function that reads from the connection without blocking. The
// function fails with errWouldBlock if there is no data, and is not safe for concurrent
// use. poller returns nil for a connection that has no file descriptor.
func poller(conn net.Conn) func(p []byte) (int, error) {
	system, is := conn.(syscall.Conn)
	if !is {
		return nil
	}
	raw, err := system.SyscallConn()
	if err != nil {
		return nil
	}
	var into []byte
	var n int
	var failure error
	read := func(fd uintptr) (done bool) {
		n, failure = syscall.Read(int(fd), into)
		return true
	}
	return func(p []byte) (int, error) {
		into = p
		err := raw.Read(read)
		into = nil
		switch {
		case err != nil:
			return 0, err
		case failure == syscall.EAGAIN:
			return 0, errWouldBlock
		case failure != nil:
			return 0, failure
		case n == 0:
			return 0, io.EOF
		}
		return n, nil
	}
}
