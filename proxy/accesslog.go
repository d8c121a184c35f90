package proxy

import (
	"net"
	"strings"

	"go.uber.org/zap/zapcore"

	"hubspot-auth-proxy/proxy/wire"
)

// line encodes an outcome as a line of the access log.
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
	to.AddString("remote", loggedRemote(l.remote))
	to.AddString("user_agent", loggedAgent(l.agent))
	to.AddString("trace_id", wire.TraceID(l.traceparent))
	return nil
}

// loggedPath returns the path as it is logged: at most maxLogged bytes, without client
// keys. HubSpot's older introspection has a token in the path, so loggedPath drops
// everything after the segment that follows "oauth", however that segment is escaped.
func loggedPath(raw string) string {
	raw = raw[:min(len(raw), maxLogged)]
	decoded, _, hasKey := strings.Cut(wire.Decode(wire.Decode(raw)), wire.KeyPrefix)
	if plain, _, found := strings.Cut(raw, wire.KeyPrefix); found {
		raw = plain + redacted
	} else if hasKey {
		raw = redacted // the key is percent-encoded
	}
	oauth := false
	for segment := range strings.FieldsFuncSeq(decoded, isSeparator) {
		// Some servers ignore what follows a semicolon in a segment.
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

// redacted replaces what must not be logged.
const redacted = "[redacted]"

// loggedMethod returns the method as it is logged. Clients may send any text as method.
func loggedMethod(method string) string {
	if strings.Contains(method, wire.KeyPrefix) {
		return redacted
	}
	return method[:min(len(method), maxMethod)]
}

// loggedRemote returns the address without its port.
func loggedRemote(address string) string {
	host, _, _ := net.SplitHostPort(address)
	return host
}

// loggedAgent returns the first User-Agent as it is logged. Clients may send any text.
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

// Of a longer text only the beginning is logged. The limits are in bytes.
const (
	maxAgent  = 100 // of a User-Agent
	maxMethod = 32  // of a method
	maxLogged = 512 // of a path
)

// isSeparator reports whether the character separates segments, on some servers at least.
func isSeparator(c rune) bool { return c == '/' || c == '\\' }
