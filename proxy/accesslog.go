package proxy

import (
	"net"
	"strings"

	"go.uber.org/zap/zapcore"

	"hubspot-auth-proxy/proxy/wire"
)

// line is a request's line in the access log.
type line struct{ *outcome }

// MarshalLogObject implements zapcore.ObjectMarshaler.
func (l line) MarshalLogObject(to zapcore.ObjectEncoder) error {
	to.AddString("portal", l.portal)
	to.AddString("client", l.client)
	to.AddString("method", wire.Printable(loggedMethod(l.method)))
	to.AddString("path", wire.Printable(loggedPath(l.path)))
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
	to.AddString("remote", l.remote)
	to.AddString("user_agent", l.agent)
	to.AddString("trace_id", l.trace)
	return nil
}

// loggedPath returns what the log has of a path. HubSpot's older introspection
// has a token in the path: nothing of a path is told after the second segment
// from /oauth/ on, however that is written, and whatever may follow it.
func loggedPath(raw string) string {
	raw = raw[:min(len(raw), maxLogged)]
	decoded := wire.Decode(wire.Decode(raw))
	if i := strings.Index(raw, wire.KeyPrefix); i >= 0 {
		raw = raw[:i] + redacted // a key in the wrong place
	} else if strings.Contains(decoded, wire.KeyPrefix) {
		raw = redacted // and in disguise
	}
	oauth := false
	for segment := range strings.FieldsFuncSeq(decoded, isSeparator) {
		// What follows a semicolon is no part of the name for some servers.
		name, _, _ := strings.Cut(segment, ";")
		if oauth {
			return "/oauth/" + name
		}
		oauth = strings.EqualFold(strings.TrimSpace(name), "oauth")
	}
	if oauth {
		return "/oauth"
	}
	return raw
}

// redacted stands for what is not logged.
const redacted = "[redacted]"

// loggedMethod returns what the log has of a method, which clients may make up.
func loggedMethod(method string) string {
	if strings.Contains(method, wire.KeyPrefix) {
		return redacted
	}
	return method[:min(len(method), maxMethod)]
}

// loggedRemote returns the address that a request comes from, without its port.
func loggedRemote(address string) string {
	host, _, _ := net.SplitHostPort(address)
	return host
}

// loggedAgent returns what the log has of a User-Agent, which clients may make up.
func loggedAgent(values []string) string {
	if len(values) == 0 {
		return ""
	}
	agent := values[0][:min(len(values[0]), maxAgent)]
	if strings.Contains(wire.Decode(agent), wire.KeyPrefix) {
		return redacted
	}
	return wire.Printable(agent)
}

// maxAgent is how much of a User-Agent is logged, in bytes.
const maxAgent = 100

// maxMethod is how much of a method is logged, in bytes.
const maxMethod = 32

// maxLogged is how much of a path is logged, in bytes.
const maxLogged = 512

// isSeparator reports whether some server takes the character for a slash.
func isSeparator(c rune) bool { return c == '/' || c == '\\' }
