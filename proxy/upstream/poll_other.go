//go:build !unix

package upstream

import "net"

// canPoll reports whether poller can return a function on this platform.
const canPoll = false

// poller returns nil, because this platform has no non-blocking read.
func poller(net.Conn) func([]byte) (int, error) { return nil }
