package proxy

import (
	"net/http"
	"time"

	"hubspot-auth-proxy/proxy/wire"
)

// outcome is how a request ended. It is made in one place, and access log, metrics
// and history read nothing else.
type outcome struct {
	portal, client string
	method, path   string // as the client sent them

	remote, agent, trace string // for the log: the client's address, its program, and its trace's id

	status     int    // that the client has got, statusGone, or 500 if it has got none
	tunnel     bool   // the request has opened one, and was no call
	complete   bool   // the answer was sent to its end
	broken     bool   // HubSpot broke off its answer
	answeredBy string // "hubspot", "proxy", or "nobody" if the client left before there was an answer

	category         string // of the proxy's own answer
	correlation      string // the id of the answer
	remaining        string // how many calls HubSpot's limit has left, as HubSpot wrote it
	daily, dailyLeft string // HubSpot's limit of a day, and what is left of it, as HubSpot wrote them
	policy           string // the limit of HubSpot's that a 429 names

	received, sent int64 // bytes of the two bodies
	attempts       int

	duration, own, hubspot time.Duration // from beginning to end; the proxy's share; waiting for HubSpot
}

// statusGone is logged for requests whose client did not wait for the end,
// as nginx has it. No client ever sees it.
const statusGone = 499

// outcomeOf returns how the request ended, once its handler has.
func outcomeOf(c *call, a *reply, ended time.Time) *outcome {
	o := &outcome{
		portal: c.portal, client: c.clientName(), method: c.request.Method, path: c.target.Path,
		complete: a.finished, answeredBy: "hubspot", category: c.refused, correlation: c.correlation,
		tunnel: c.connected, received: c.received(), sent: a.bytes, attempts: c.attempts,
		remote: loggedRemote(c.request.RemoteAddr), agent: loggedAgent(c.request.Header["User-Agent"]), trace: wire.TraceID(c.request.Header["Traceparent"]),
		duration: ended.Sub(c.began), own: c.own(ended), hubspot: c.spans.upstream,
	}
	switch {
	case a.finished:
		o.status = a.status
	case a.failed || c.request.Context().Err() != nil:
		o.status = statusGone
	case a.status == 0:
		o.status = http.StatusInternalServerError // a fault of ours, which net/http logs
	default:
		o.status, o.broken = a.status, true
	}
	switch {
	case a.status == 0:
		o.answeredBy = "nobody"
	case c.refused != "", c.connected:
		o.answeredBy = "proxy"
	default:
		o.correlation = a.Header().Get("X-Hubspot-Correlation-Id")
		o.remaining = a.Header().Get("X-Hubspot-Ratelimit-Remaining")
		o.daily, o.dailyLeft = a.Header().Get("X-Hubspot-Ratelimit-Daily"), a.Header().Get("X-Hubspot-Ratelimit-Daily-Remaining")
		if a.status == http.StatusTooManyRequests {
			o.policy = policyOf(a.limit, a.Header())
		}
	}
	return o
}

// failed reports whether an operator should know of it.
func (o *outcome) failed() bool {
	return o.category != "" || o.status == http.StatusUnauthorized || o.status == http.StatusTooManyRequests || o.status >= 500
}
