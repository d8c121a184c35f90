package admin

import (
	"bytes"
	"log"
	"net"
	"net/http"
	"time"

	"go.uber.org/zap"

	"hubspot-auth-proxy/proxy/connlimit"
	"hubspot-auth-proxy/proxy/wire"
)

// The limits of the listener. The memory that unfinished requests can take is the product of
// maxHeader and maxConnections.
const (
	maxHeader      = 16 << 10
	maxConnections = 64
	headerTimeout  = 5 * time.Second

	// busyTime is the time for which a request may be under way while other connections
	// wait. It is shorter than the timeouts of health probes.
	busyTime = 2 * time.Second
)

// Server returns a server for the admin listener, and a listener on which to serve. The listener
// limits the number of open connections. If there are too many, it closes idle connections,
// connections without a complete request, and connections whose request takes longer than busyTime.
// So neither unfinished requests nor clients that do not read their answers block health probes.
func (a *Admin) Server(listener net.Listener) (*http.Server, net.Listener) {
	limited := connlimit.New(listener, maxConnections, 0, busyTime)
	return &http.Server{
		Handler:           a,
		MaxHeaderBytes:    maxHeader - slop,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      10 * time.Second,
		ConnState:         limited.ConnState,
		ConnContext:       limited.ConnContext,
		ErrorLog:          log.New(serverLog{a.throttled}, "", 0),
	}, limited
}

// slop is the number of bytes of a header that net/http reads beyond MaxHeaderBytes.
const slop = 4 << 10

// serverLog logs the errors of net/http's server.
type serverLog struct{ log *zap.Logger }

// Write implements [io.Writer] for a [log.Logger].
func (l serverLog) Write(text []byte) (int, error) {
	if !bytes.Contains(text, []byte(": panic serving ")) {
		l.log.Warn("the admin listener's server has a warning", zap.String("error", wire.Printable(string(bytes.TrimSpace(text)))))
		return len(text), nil
	}
	// The message of a panic may quote the request, which may have a code or a state, so only
	// the stack is logged.
	stack := []byte(nil)
	if begin := bytes.LastIndex(text, []byte("\ngoroutine ")); begin >= 0 {
		stack = bytes.TrimSpace(text[begin:])
	}
	l.log.Error("a request to the admin listener ended in a panic", zap.ByteString("stack", stack))
	return len(text), nil
}
