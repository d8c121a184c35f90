package admin

import (
	"bytes"

	"go.uber.org/zap"

	"hubspot-auth-proxy/proxy/wire"
)

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
