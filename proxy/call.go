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

// call is the state of one request. ServeHTTP puts it into the request's context, and the
// hooks of ReverseProxy read it from there.
type call struct {
	request *http.Request // as the client sent it
	began   time.Time
	debug   bool // the client asked for headers that explain the answer

	admission
	tokenCallCounted bool // tokenCalls counts this call
	inLoad           bool // load counts this call
	tokenInfo        bool // the forwarded body contains the portal's token
	bodyRead         bool // oauth or tokenCalls has read the body already
	bodyAhead        int  // length of the body, if turns.readAhead has read it
	dailyTaken       bool // the call is counted in the client's daily limit
	connected        bool // the request was a CONNECT, and its tunnel was opened

	announced []string     // names in the client's Trailer header
	body      *replay.Body // nil if there is no body, or before the first attempt

	turn budget.Turn // within HubSpot's rate limits

	used     []*tokens.Credential // the credential of each attempt
	attempts int
	renewed  bool // another credential was asked for after a 401
	spans    spans

	flush    func()         // sends the client what is still buffered of the answer
	response *http.Response // HubSpot's answer; nil if there is none

	connection []string // the Connection field of HubSpot's answer, which ReverseProxy removes

	refused     string // category of the proxy's own answer
	correlation string // correlation id of the proxy's own answer
}

// admission is what the request asks for, and who sends it.
type admission struct {
	tunnel    *intercept.Tunnel // the tunnel that the request came through, or opens; nil means none
	target    wire.Target       // as it is forwarded
	client    *clients.Client   // nil means that the request has no known client key
	key       secret.Text       // the one key that the request presents, known or not
	named     string            // the portal that the request names; empty means none
	portal    string            // empty for HubSpot's own OAuth endpoints
	tokenCall bool              // a call of HubSpot's token endpoint without a client key
}

// clientKey returns the client's key. It is empty if the request has no known key, even
// if it presents a placeholder.
func (a *admission) clientKey() secret.Text {
	if a.client == nil {
		return secret.Text{}
	}
	return a.key
}

// spans are the durations of a request's parts.
type spans struct {
	turn       time.Duration // waiting for turns within HubSpot's rate limits
	credential time.Duration // from the request's arrival until there was a credential, without turn
	renewal    time.Duration // waiting for another credential after a 401
	upstream   time.Duration // waiting for the header of HubSpot's answer, all attempts together
	header     time.Duration // from the request's arrival until the end of the last attempt's wait
}

type callKey struct{}

// callOf returns the call in the context, and panics if there is none.
func callOf(ctx context.Context) *call { return ctx.Value(callKey{}).(*call) }

// clientName returns the client's name. It is empty for an anonymous client.
func (c *call) clientName() string {
	if c.client == nil {
		return ""
	}
	return c.client.Name
}

// own returns how long the proxy itself took: from the request's arrival until the header
// of HubSpot's answer, without waiting for HubSpot or for turns within its rate limits. If
// the request was not sent to HubSpot, own counts until the request's end.
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

// hasBody reports whether the request has a body. A body of unknown length may be empty.
func hasBody(r *http.Request) bool {
	return r.ContentLength != 0 && r.Body != nil && r.Body != http.NoBody
}

// unread reports whether the client may still send bytes of the request's body.
func (c *call) unread() bool {
	if c.body == nil {
		return hasBody(c.request) && c.bodyAhead == 0
	}
	return !c.body.Ended()
}

// tunnelEnds reports whether the answer must close the tunnel, because its key is no longer
// valid. The client then opens another tunnel.
func (c *call) tunnelEnds() bool {
	return c.tunnel != nil && c.refused == "CLIENT_UNAUTHENTICATED" && c.request.Method != http.MethodConnect
}

// String formats the spans for the Server-Timing header, in milliseconds
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
