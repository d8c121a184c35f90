package proxy

import (
	"net/http"
	"strings"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"hubspot-auth-proxy/proxy/wire"
)

// statusGone is logged for requests whose client did not wait for the end,
// as nginx has it. No client ever sees it.
const statusGone = 499

// lingerTime is how long a client that has its answer may go on sending the
// body that nobody reads any more. To reset the connection at once could keep
// the answer from it.
const lingerTime = 5 * time.Second

// end closes what the request had open, counts it, and writes its line in the
// access log. It runs as well when the answer was broken off, by a panic that
// goes on to net/http.
func (p *Proxy) end(a *answer) {
	c := a.call
	if !c.finished && a.status != 0 {
		// net/http's server drops what it has not sent of an answer that is
		// broken off.
		a.flush()
	}
	if c.body != nil {
		c.body.close()
	}
	if c.request.ProtoMajor == 1 && c.unread() {
		// The connection ends; not to wait for a client that sends slowly.
		_ = http.NewResponseController(a.ResponseWriter).SetReadDeadline(time.Now().Add(lingerTime))
	}
	now := time.Now()
	status, broken := a.ended()
	if broken {
		p.metrics.broken.Inc()
		p.faults.Warn("HubSpot broke off its answer", zap.String("portal", c.portal), zap.Int("status", status))
	}
	p.metrics.count(a, status, now)
	if p.options.History != nil && !c.connected {
		p.options.History.count(c.refused != "" || isFailure(status))
	}
	if p.options.AccessLog {
		p.logRequest(a, status, now)
	}
	p.endTokenCall(c)
	if c.counted {
		p.load.end(c.clientName())
	}
	p.underWay.Add(-1)
}

// ended returns the status that the request is counted and logged with, and
// whether HubSpot broke off its answer.
func (a *answer) ended() (status int, broken bool) {
	switch {
	case a.call.finished:
		return a.status, false
	case a.failed || a.call.request.Context().Err() != nil:
		return statusGone, false
	case a.status == 0:
		return http.StatusInternalServerError, false // a fault of ours, which net/http logs
	}
	return a.status, true
}

// isFailure reports whether an operator should know of an answer of HubSpot's
// with that status.
func isFailure(status int) bool {
	return status == http.StatusUnauthorized || status == http.StatusTooManyRequests || status >= 500
}

func (p *Proxy) logRequest(a *answer, status int, ended time.Time) {
	p.log.Info("request", zap.Inline(line{a, status, ended}))
}

// line is a request's line in the access log.
type line struct {
	*answer
	status int
	ended  time.Time
}

// MarshalLogObject implements zapcore.ObjectMarshaler.
func (l line) MarshalLogObject(to zapcore.ObjectEncoder) error {
	c := l.call
	correlation := c.correlation
	if correlation == "" {
		correlation = l.Header().Get("X-Hubspot-Correlation-Id")
	}
	to.AddString("portal", c.portal)
	to.AddString("client", c.clientName())
	to.AddString("method", wire.Printable(loggedMethod(c.request.Method)))
	to.AddString("path", wire.Printable(loggedPath(c.target.Path)))
	to.AddInt("status", l.status)
	to.AddInt64("received", c.received())
	to.AddInt64("bytes", l.bytes)
	to.AddDuration("duration", l.ended.Sub(c.began))
	to.AddDuration("own", c.own(l.ended))
	to.AddDuration("hubspot", c.spans.upstream)
	to.AddInt("attempts", c.attempts)
	to.AddString("category", c.refused)
	to.AddString("correlation_id", wire.Printable(correlation))
	to.AddBool("complete", c.finished)
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

// maxMethod is how much of a method is logged, in bytes.
const maxMethod = 32

// maxLogged is how much of a path is logged, in bytes.
const maxLogged = 512

// isSeparator reports whether some server takes the character for a slash.
func isSeparator(c rune) bool { return c == '/' || c == '\\' }
