package proxy

import (
	"bytes"

	"go.uber.org/zap"
)

// serverLog is where net/http's server writes what went wrong. Its texts name
// the connection, so that each is another: here they are a field, and what has
// one cause has one message.
type serverLog struct{ log *zap.Logger }

// Write implements io.Writer, for a log.Logger.
func (l serverLog) Write(text []byte) (int, error) {
	detail := zap.String("error", string(bytes.TrimSpace(text)))
	switch {
	case bytes.HasPrefix(text, []byte("http: TLS handshake error")):
		l.log.Warn("a client's TLS handshake failed", detail)
	case bytes.Contains(text, []byte(": panic serving ")):
		l.log.Error("a request ended in a panic", detail)
	default:
		l.log.Warn("the HTTP server has a warning", detail)
	}
	return len(text), nil
}
