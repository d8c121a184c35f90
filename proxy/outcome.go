package proxy

import (
	"net/http"
	"time"

	"hubspot-auth-proxy/proxy/activity"
	"hubspot-auth-proxy/proxy/clients"
	"hubspot-auth-proxy/proxy/wire"
)

// outcome is how a request ended. outcomeOf makes it, and the access log, the metrics and
// the activity log read nothing else.
type outcome struct {
	portal, client string
	method, path   string // as the client sent them; see call.loggable

	remote      string   // the client's address and port
	agent       string   // the client's User-Agent; see call.loggable
	traceparent []string // the client's header Traceparent

	status     int    // what the client received; statusGone if the client left; 500 after a panic
	tunnel     bool   // the request was a CONNECT that opened a tunnel
	complete   bool   // the answer was sent to its end
	broken     bool   // HubSpot broke off its answer
	answeredBy string // "hubspot", "proxy", or "nobody" if no answer began

	category    string // of the proxy's own answer
	correlation string // the id of the answer
	remaining   string // HubSpot's header X-HubSpot-RateLimit-Remaining
	policy      string // the limit that HubSpot's 429 names
	problem     string // the category of HubSpot's error

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
		portal: c.portal, client: c.clientName(), method: c.loggable(c.request.Method), path: c.loggable(c.target.Path),
		complete: a.finished, answeredBy: "hubspot", category: c.refused, correlation: c.correlation,
		tunnel: c.connected, received: c.received(), sent: a.bytes, attempts: c.attempts,
		remote: c.request.RemoteAddr, agent: c.loggable(wire.First(c.request.Header, "User-Agent")), traceparent: c.request.Header["Traceparent"],
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
		o.correlation = wire.First(header, "X-Hubspot-Correlation-Id")
		o.remaining = wire.First(header, "X-Hubspot-Ratelimit-Remaining")
		if a.keepsError() {
			e := parseError(a.problem, header)
			o.policy, o.problem = policyOf(a.status, e), categoryOf(e)
		}
	}
	return o
}

// loggable returns the text, or wire.Redacted if the text contains the client's key. It checks
// only a key that an operator has chosen: what logs the text recognizes all keys that begin
// with wire.KeyPrefix.
func (c *call) loggable(text string) string {
	if key := c.clientKey().Reveal(); !clients.IsKey(key) && wire.Carries(text, key) {
		return wire.Redacted
	}
	return text
}

// activity returns the call that has ended. The header is that of the answer.
func (o *outcome) activity(header http.Header) activity.Call {
	c := activity.Call{
		Client: o.client, Portal: o.portal, Method: o.method, Path: o.path, Status: o.status,
		Left: o.status == statusGone, Refused: o.category != "",
	}
	if o.answeredBy == "hubspot" {
		c.Answer, c.Category, c.Correlation = header, o.problem, o.correlation
	}
	return c
}
