package testkit

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"
)

// Serve listens on a free port of 127.0.0.1, and calls serve for each connection, in a goroutine of
// its own. Serve closes a connection when serve returns, when the test ends, and after [Timeout]
// without an end. The test ends when all calls of serve have returned.
func Serve(tb testing.TB, serve func(net.Conn)) (address string) {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	ctx := tb.Context() // a fuzz target must not ask for it
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer conn.Close()
				defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
				_ = conn.SetDeadline(time.Now().Add(Timeout))
				serve(conn)
			})
		}
	})
	tb.Cleanup(func() {
		_ = listener.Close()
		serving.Wait()
	})
	return listener.Addr().String()
}
