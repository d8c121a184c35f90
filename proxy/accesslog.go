package proxy

import (
	"net"

	"go.uber.org/zap/zapcore"

	"hubspot-auth-proxy/proxy/wire"
)

// line encodes an outcome as a line of the access log.
type line struct{ *outcome }

// MarshalLogObject implements zapcore.ObjectMarshaler.
func (l line) MarshalLogObject(to zapcore.ObjectEncoder) error {
	to.AddString("portal", l.portal)
	to.AddString("client", l.client)
	to.AddString("method", wire.LoggedMethod(l.method))
	to.AddString("path", wire.LoggedPath(l.path))
	to.AddInt("status", l.status)
	to.AddInt64("received", l.received)
	to.AddInt64("bytes", l.sent)
	to.AddDuration("duration", l.duration)
	to.AddDuration("own", l.own)
	to.AddDuration("hubspot", l.hubspot)
	to.AddInt("attempts", l.attempts)
	to.AddString("category", l.category)
	to.AddString("correlation_id", wire.Printable(l.correlation))
	to.AddBool("complete", l.complete)
	to.AddString("remote", loggedRemote(l.remote))
	to.AddString("user_agent", wire.LoggedAgent(l.agent))
	to.AddString("trace_id", wire.TraceID(l.traceparent))
	return nil
}

// loggedRemote returns the address without its port.
func loggedRemote(address string) string {
	host, _, _ := net.SplitHostPort(address)
	return host
}
