//go:build !unix

package upstream

import "net"

// canPoll tells whether poller works.
const canPoll = false

// poller returns nothing: what the system has of a connection is not told here.
func poller(net.Conn) func([]byte) (int, error) { return nil }
