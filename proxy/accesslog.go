package proxy

import (
	"net/http"
	"path"
	"strings"
	"time"

	"go.uber.org/zap"
)

// statusGone is logged for requests whose client did not wait for the end,
// as nginx has it. No client ever sees it.
const statusGone = 499

// lingerTime is how long a client that has its answer may go on sending the
// body that nobody reads any more. To reset the connection at once could keep
// the answer from it.
const lingerTime = 5 * time.Second

// end closes what the request had open, and writes its line in the access log.
// It runs as well when the answer was broken off, by a panic that goes on to
// net/http.
func (p *Proxy) end(a *answer) {
	c := a.call
	if c.body != nil {
		c.body.close()
	}
	if c.request.ProtoMajor == 1 && c.unread() {
		// The connection ends; not to wait for a client that sends slowly.
		_ = http.NewResponseController(a.ResponseWriter).SetReadDeadline(time.Now().Add(lingerTime))
	}
	if !p.options.AccessLog {
		return
	}
	status := a.status
	if !c.finished && (a.failed || c.request.Context().Err() != nil) {
		status = statusGone
	}
	correlation := c.correlation
	if correlation == "" {
		correlation = a.Header().Get("X-Hubspot-Correlation-Id")
	}
	p.log.Info("request",
		zap.String("portal", c.portal),
		zap.String("method", c.request.Method),
		zap.String("path", loggedPath(c.target.path)),
		zap.Int("status", status),
		zap.Int64("bytes", a.bytes),
		zap.Duration("duration", time.Since(c.began)),
		zap.Duration("hubspot", c.spans.upstream),
		zap.Int("attempts", c.attempts),
		zap.String("category", c.refused),
		zap.String("correlation_id", correlation),
		zap.Bool("complete", c.finished),
	)
}

// loggedPath returns what the log has of a path. HubSpot's older introspection
// has a token in the path: nothing of a path is told after the second segment
// from /oauth/ on, however it is written.
func loggedPath(raw string) string {
	const most = 512
	decoded := strings.ToLower(path.Clean(decode(decode(raw))))
	if decoded == "/oauth" || strings.Contains(decoded, "/oauth/") {
		_, after, _ := strings.Cut(decoded, "/oauth/")
		version, _, _ := strings.Cut(after, "/")
		return "/oauth/" + version
	}
	return raw[:min(len(raw), most)]
}

var _ http.Handler = (*Proxy)(nil)
