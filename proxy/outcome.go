package proxy

import (
	"net/http"
	"time"
)

// outcome is how a request ended. outcomeOf makes it, and the access log, the metrics and
// the history read nothing else.
type outcome struct {
	portal, client string
	method, path   string // as the client sent them

	remote             string   // the client's address and port
	agent, traceparent []string // the client's headers User-Agent and Traceparent

	status     int    // what the client received; statusGone if the client left; 500 after a panic
	tunnel     bool   // the request was a CONNECT that opened a tunnel
	complete   bool   // the answer was sent to its end
	broken     bool   // HubSpot broke off its answer
	answeredBy string // "hubspot", "proxy", or "nobody" if no answer began

	category         string // of the proxy's own answer
	correlation      string // the id of the answer
	remaining        string // HubSpot's header X-HubSpot-RateLimit-Remaining
	daily, dailyLeft string // HubSpot's headers X-HubSpot-RateLimit-Daily and -Daily-Remaining
	policy           string // the limit that HubSpot's 429 names
	problem          string // the category of HubSpot's error

	received, sent int64 // bytes of the two bodies
	attempts       int

	duration, own, hubspot time.Duration // whole time; see call.own; waiting for HubSpot
}

// statusGone is logged for requests whose client left before the end, as nginx does. It is
// never sent.
const statusGone = 499

// outcomeOf returns how the request ended. Call it when the handler has ended.
func outcomeOf(c *call, a *reply, ended time.Time) *outcome {
	o := &outcome{
		portal: c.portal, client: c.clientName(), method: c.request.Method, path: c.target.Path,
		complete: a.finished, answeredBy: "hubspot", category: c.refused, correlation: c.correlation,
		tunnel: c.connected, received: c.received(), sent: a.bytes, attempts: c.attempts,
		remote: c.request.RemoteAddr, agent: c.request.Header["User-Agent"], traceparent: c.request.Header["Traceparent"],
		duration: ended.Sub(c.began), own: c.own(ended), hubspot: c.spans.upstream,
	}
	switch {
	case a.finished:
		o.status = a.status
	case a.failed || c.request.Context().Err() != nil:
		o.status = statusGone
	case a.status == 0:
		o.status = http.StatusInternalServerError // the handler panicked; net/http logs that
	default:
		o.status, o.broken = a.status, true
	}
	switch {
	case a.status == 0:
		o.answeredBy = "nobody"
	case c.refused != "", c.connected:
		o.answeredBy = "proxy"
	default:
		header := a.Header()
		o.correlation = first(header, "X-Hubspot-Correlation-Id")
		o.remaining = first(header, "X-Hubspot-Ratelimit-Remaining")
		o.daily, o.dailyLeft = first(header, "X-Hubspot-Ratelimit-Daily"), first(header, "X-Hubspot-Ratelimit-Daily-Remaining")
		if a.keepsError() {
			e := parseError(a.problem, header)
			o.policy, o.problem = policyOf(a.status, e), categoryOf(e)
		}
	}
	return o
}

// first returns the first value of a field, or "" if there is none. The name must be in
// canonical form: unlike http.Header.Get, first does not convert it.
func first(header http.Header, name string) string {
	if values := header[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}

// failed reports whether the outcome counts as an error in the history.
func (o *outcome) failed() bool {
	return o.category != "" || o.status == http.StatusUnauthorized || o.status == http.StatusTooManyRequests || o.status >= 500
}
