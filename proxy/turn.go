package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"hubspot-auth-proxy/proxy/budget"
)

// turns gives calls their turns within HubSpot's rate limits, and counts what is sent.
// It is safe for concurrent use.
type turns struct {
	*Options
	ahead atomic.Int64 // bytes of bodies that were read while their requests wait; at most RetryMemory
}

// needed reports whether calls need turns.
func (t *turns) needed() bool { return t.Budget != nil && t.RateLimitWait > 0 }

// admit takes one of the client's calls of the day, and waits for the call's turn.
func (t *turns) admit(c *call) *refusal {
	if t.Budget == nil || c.portal == "" || c.target.IsOAuth() {
		return nil
	}
	if c.client != nil && c.client.DailyLimit > 0 {
		if err := t.Budget.TakeDaily(c.request.Context(), c.client.Name, c.client.DailyLimit, c.began); err != nil {
			return c.turnRefused(err)
		}
		c.dailyTaken = true
	}
	if !t.needed() {
		return nil
	}
	turn, err := t.Budget.Take(c.request.Context(), c.budgetCall(), t.RateLimitWait, func() error { return t.readAhead(c) })
	c.turn, c.spans.turn = turn, turn.Waited
	if err != nil {
		return c.turnRefused(err)
	}
	return nil
}

// end gives back what the call has taken and not used.
func (t *turns) end(c *call) {
	if c.dailyTaken {
		t.Budget.SettleDaily(c.client.Name, c.attempts)
	}
	t.ahead.Add(int64(-c.bodyAhead))
}

func (c *call) budgetCall() budget.Call {
	return budget.Call{
		Portal: c.portal, Client: c.clientName(),
		Search: c.request.Method == http.MethodPost && c.target.IsObjectSearch(),
	}
}

// turnRefused returns the answer to a call that has no turn.
func (c *call) turnRefused(err error) *refusal {
	var refused *budget.RefusedError
	switch {
	case c.request.Context().Err() != nil:
		// Nobody is there to read an answer.
		panic(http.ErrAbortHandler)
	case errors.As(err, &refused):
		return rateLimited(refused)
	default:
		return bodyInvalid()
	}
}

// rateLimited refuses a call in HubSpot's words, by which SDKs decide whether, and when,
// they send it again.
func rateLimited(refused *budget.RefusedError) *refusal {
	r := &refusal{category: "RATE_LIMITED", retryAfter: refused.RetryAfter, policy: refused.Policy, final: refused.Daily}
	switch {
	case refused.Daily:
		r.reason = "The client has used up its calls of the day, which ends at midnight UTC. The call was not sent to HubSpot. The proxy's operator can raise the client's daily_limit."
	case refused.Full:
		r.reason = "Too many calls of this client wait for their turn within HubSpot's rate limit. The call was not sent to HubSpot. Try again later, with fewer calls at once."
	default:
		r.reason = "The portal's calls are at HubSpot's rate limit, and this call's turn does not come within RATE_LIMIT_WAIT. The call was not sent to HubSpot. Try again later."
	}
	r.message = "You have reached your " + strings.ToLower(refused.Policy) + " limit."
	if refused.Policy != budget.PolicySecond { // whose message HubSpot's SDK for Node compares as a whole
		r.message += " " + r.reason
	}
	return r
}

// maxReadAhead is the length in bytes of the longest body that is read while its request
// waits.
const maxReadAhead = 64 << 10

// readAhead reads the request's body before the request waits for its turn. Over HTTP/1,
// net/http's server does not notice that a client has left until the body is read.
// readAhead does not read a longer body than maxReadAhead: such a request keeps its place
// in the queue after its client has left.
func (t *turns) readAhead(c *call) error {
	r := c.request
	length := r.ContentLength
	if !hasBody(r) || r.ProtoMajor != 1 || length < 0 || length > maxReadAhead || c.bodyRead || awaitsContinue(r) {
		return nil
	}
	if t.ahead.Add(length) > t.RetryMemory {
		t.ahead.Add(-length)
		return nil
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.ahead.Add(-length)
		return err
	}
	c.bodyAhead = len(body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	return nil
}

// sent counts a call that was sent at the time at, and learns HubSpot's limits from the answer.
func (t *turns) sent(c *call, response *http.Response, err error, at time.Time) {
	if t.Budget == nil {
		return
	}
	if err != nil {
		c.turn.Failed(at)
		if dialing := (*net.OpError)(nil); errors.As(err, &dialing) && dialing.Op == "dial" {
			return
		}
	} else {
		c.turn.Answered(response.Header, at)
	}
	t.Budget.Count(c.clientName(), c.portal, at)
}

// rejected handles HubSpot's 429. If the limit is one of seconds, and the request can be
// sent again, rejected waits for another turn. again is false if the client gets the 429.
func (t *turns) rejected(ctx context.Context, c *call, response *http.Response) (again bool, err error) {
	if c.body != nil {
		c.body.EndAttempt() // as authenticate does it after a 401
	}
	said := readError(response)
	policy := said.PolicyName
	if policy == "" && said.Category == "RATE_LIMITS" {
		policy = budget.PolicySecond // HubSpot's other shape
	}
	if !budget.IsBurst(policy) {
		return false, nil
	}
	c.turn.Rejected(policy)
	if c.body != nil && !c.body.Repeatable() {
		return false, nil
	}
	next := c.budgetCall()
	next.Again = true
	turn, err := t.Budget.Take(ctx, next, t.RateLimitWait-c.spans.turn, nil)
	c.spans.turn += turn.Waited
	if ctx.Err() != nil {
		_ = response.Body.Close()
		return false, ctx.Err()
	}
	if err != nil {
		return false, nil
	}
	c.turn = turn
	_ = response.Body.Close()
	return true, nil
}
