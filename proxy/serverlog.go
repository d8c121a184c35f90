package proxy

import (
	"bytes"

	"go.uber.org/zap"

	"hubspot-auth-proxy/proxy/wire"
)

// serverLog receives the error messages of net/http's server. Those contain the
// connection's address, so each is different. serverLog logs them as a field, under one
// fixed message for each cause, so that throttling works.
type serverLog struct{ log *zap.Logger }

// Write implements io.Writer, for a log.Logger.
func (l serverLog) Write(text []byte) (int, error) {
	// The stack of a panic keeps its line breaks. It contains nothing from a client.
	message, stack := bytes.TrimSpace(text), []byte(nil)
	if begin := bytes.LastIndex(message, []byte("\ngoroutine ")); begin >= 0 {
		message, stack = message[:begin], message[begin+1:]
	}
	detail := zap.String("error", wire.Printable(string(message)))
	switch {
	case bytes.HasPrefix(text, []byte("http: TLS handshake error")):
		l.log.Warn("a client's TLS handshake failed", detail)
	case bytes.Contains(text, []byte(": panic serving ")):
		l.log.Error("a request ended in a panic", detail, zap.ByteString("stack", stack))
	default:
		l.log.Warn("the HTTP server reports an error", detail)
	}
	return len(text), nil
}
