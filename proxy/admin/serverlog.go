package admin

import (
	"bytes"

	"go.uber.org/zap"

	"hubspot-auth-proxy/proxy/wire"
)

// serverLog is where net/http's server writes what went wrong.
type serverLog struct{ log *zap.Logger }

// Write implements io.Writer, for a log.Logger.
func (l serverLog) Write(text []byte) (int, error) {
	if !bytes.Contains(text, []byte(": panic serving ")) {
		l.log.Warn("the admin listener's server has a warning", zap.String("error", wire.Printable(string(bytes.TrimSpace(text)))))
		return len(text), nil
	}
	// What a panic says may quote the request, which may hold a code or a
	// state: only where it was is told.
	stack := []byte(nil)
	if begin := bytes.LastIndex(text, []byte("\ngoroutine ")); begin >= 0 {
		stack = bytes.TrimSpace(text[begin:])
	}
	l.log.Error("a request to the admin listener ended in a panic", zap.ByteString("stack", stack))
	return len(text), nil
}
