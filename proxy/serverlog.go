package proxy

import (
	"bytes"

	"go.uber.org/zap"

	"hubspot-auth-proxy/proxy/wire"
)

// serverLog is where net/http's server writes what went wrong. Its texts name
// the connection, so that each is another: here they are a field, and what has
// one cause has one message.
type serverLog struct{ log *zap.Logger }

// Write implements io.Writer, for a log.Logger.
func (l serverLog) Write(text []byte) (int, error) {
	// The stack has lines, and nothing that a client has sent.
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
		l.log.Warn("the HTTP server has a warning", detail)
	}
	return len(text), nil
}
