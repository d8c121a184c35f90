package proxy

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"hubspot-auth-proxy/proxy/budget"
	"hubspot-auth-proxy/proxy/clients"
	"hubspot-auth-proxy/proxy/intercept"
	"hubspot-auth-proxy/proxy/replay"
	"hubspot-auth-proxy/proxy/wire"
	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/secret"
)

// call is what is known of one request on its way. It travels in the request's
// context, where ServeHTTP puts it and the hooks of ReverseProxy find it.
type call struct {
	request *http.Request // as the client sent it
	began   time.Time
	debug   bool // the client asked for headers that explain the answer

	admission
	tokenCallCounted bool // among the token calls under way
	counted          bool // in the load
	tokenInfo        bool // its body has the portal's token
	bodyRead         bool // the body was read before HubSpot is asked
	bodyAhead        int  // bytes of it that were read, all of them, while the call waits for its turn
	dailyTaken       bool // one of the client's calls of the day
	connected        bool // the request asked for a tunnel, which was opened

	announced []string     // trailers that the client will send
	body      *replay.Body // nil: there is none, or it was not needed yet

	turn budget.Turn // within HubSpot's rate limits

	used     []*tokens.Credential // one for each time the request was sent
	attempts int
	renewed  bool // another credential was asked for after a 401
	spans    spans

	flush    func()         // sends the client what it has not got of the answer
	response *http.Response // HubSpot's answer; nil: there is none

	refused     string // the category of the proxy's own answer
	correlation string // the id of that
}

// admission is what a request asks for, and who asks.
type admission struct {
	tunnel    *intercept.Tunnel // that the request came through, or asks for; nil means none
	target    wire.Target       // what HubSpot is asked for
	client    *clients.Client   // nil means that the call has no client key
	key       secret.Text       // the client's
	named     string            // the portal that the request names, empty if it names none
	portal    string            // empty for HubSpot's own OAuth endpoints
	tokenCall bool              // a call of HubSpot's token endpoint without a client key
}

// clientKey returns the client's key, empty if the call has none. A placeholder is
// none.
func (a *admission) clientKey() secret.Text {
	if a.client == nil {
		return secret.Text{}
	}
	return a.key
}

// spans are where the time went.
type spans struct {
	turn       time.Duration // that the call has waited for its turns
	credential time.Duration // until there was one
	renewal    time.Duration // until there was another one
	upstream   time.Duration // until HubSpot's header, of all tries together
	header     time.Duration // from the request's arrival until the last try's end
}

type callKey struct{}

// callOf returns the call that the context belongs to.
func callOf(ctx context.Context) *call { return ctx.Value(callKey{}).(*call) }

// clientName returns the client's name, empty if it is anonymous.
func (c *call) clientName() string {
	if c.client == nil {
		return ""
	}
	return c.client.Name
}

// own returns the proxy's own share of the time: from the request's arrival
// until HubSpot's header, or the end where there was none to wait for, without
// the waiting for HubSpot, and for a turn within its rate limits.
func (c *call) own(ended time.Time) time.Duration {
	if c.attempts == 0 {
		return ended.Sub(c.began) - c.spans.turn
	}
	return c.spans.header - c.spans.upstream - c.spans.turn
}

// received returns how many bytes of the request's body were read.
func (c *call) received() int64 {
	if c.body == nil {
		return 0
	}
	return c.body.Received()
}

// hasBody reports whether the request has a body. One of unknown length may
// turn out to be empty.
func hasBody(r *http.Request) bool {
	return r.ContentLength != 0 && r.Body != nil && r.Body != http.NoBody
}

// unread reports whether bytes of the request's body may still be to come.
func (c *call) unread() bool {
	if c.body == nil {
		return hasBody(c.request) && c.bodyAhead == 0
	}
	return !c.body.Ended()
}

// trailed reports whether HubSpot's answer has ended with trailers.
func (c *call) trailed() bool { return c.response != nil && len(c.response.Trailer) > 0 }

// String returns the spans as Server-Timing has them, in milliseconds
// (https://www.w3.org/TR/server-timing/).
func (s spans) String() string {
	var parts []string
	add := func(name string, d time.Duration) {
		if d > 0 {
			parts = append(parts, fmt.Sprintf("%s;dur=%.3f", name, float64(d)/float64(time.Millisecond)))
		}
	}
	add("turn", s.turn)
	add("credential", s.credential)
	add("renewal", s.renewal)
	add("hubspot", s.upstream)
	return strings.Join(parts, ", ")
}
