package proxy

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"sync/atomic"
	"time"
)

// Limits for calls of HubSpot's token endpoint without a client key. They exist because
// anyone who can reach the proxy can send such calls. A genuine body has a few hundred bytes.
const (
	maxTokenCalls = 16               // calls under way at once
	maxTokenBody  = 64 << 10         // bytes of a body
	tokenBodyTime = 30 * time.Second // time for the whole body to arrive
)

// tokenCalls counts and limits the calls of the token endpoint without a client key. It is
// safe for concurrent use.
type tokenCalls struct {
	bodyTime time.Duration
	underWay atomic.Int64
}

// admit counts a call and reads its whole body, or refuses the call. A client that sends
// slowly therefore holds no connection to HubSpot.
func (t *tokenCalls) admit(rw http.ResponseWriter, c *call) *refusal {
	switch {
	case c.request.ContentLength > maxTokenBody:
		return tokenBodyTooLong()
	case t.underWay.Add(1) > maxTokenCalls:
		t.underWay.Add(-1)
		return newDelay("OVERLOADED", time.Second,
			"Too many calls of the token endpoint without a client key are under way. Try again later, or send a client key.")
	}
	c.tokenCallCounted = true
	if !hasBody(c.request) {
		return nil
	}
	c.bodyRead = true
	control := http.NewResponseController(rw)
	_ = control.SetReadDeadline(time.Now().Add(t.bodyTime))
	body, err := io.ReadAll(io.LimitReader(c.request.Body, maxTokenBody+1))
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return requestInvalid("The request's body has not arrived within 30 seconds, which is the limit for calls of the token endpoint without a client key. Send it again, or send a client key.")
	case err != nil:
		return bodyInvalid()
	case len(body) > maxTokenBody:
		return tokenBodyTooLong()
	}
	// Remove the deadline: net/http's server continues to read, to notice when the
	// client leaves.
	_ = control.SetReadDeadline(time.Time{})
	c.request.Body = io.NopCloser(bytes.NewReader(body))
	return nil
}

// end removes a call from the count, if admit has counted it.
func (t *tokenCalls) end(c *call) {
	if c.tokenCallCounted {
		t.underWay.Add(-1)
	}
}

func tokenBodyTooLong() *refusal {
	return requestInvalid("The request's body is longer than 64 KiB, which is the limit for calls of the token endpoint without a client key. Send a client key.")
}
