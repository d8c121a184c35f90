package proxy

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"time"

	"hubspot-auth-proxy/proxy/replay"
	"hubspot-auth-proxy/tokens"
)

// authenticate is an http.RoundTripper that sends a request with its portal's
// credential, and once more with another one if HubSpot answers 401.
type authenticate struct {
	credentials Credentials
	upstream    http.RoundTripper
	memory      *replay.Memory
	bodyLimit   int64 // of bytes that are kept
	metrics     *metrics
	turns       *turns
}

// RoundTrip implements http.RoundTripper, for requests whose context has a
// call.
func (t *authenticate) RoundTrip(r *http.Request) (*http.Response, error) {
	c := callOf(r.Context())
	if r.Body != nil {
		c.body = replay.NewBody(r.Body, r.ContentLength, t.memory, t.bodyLimit)
	}
	if c.target.IsOAuth() {
		return t.send(r, c, nil)
	}
	for {
		response, err := t.sendAuthenticated(r, c)
		if err != nil || response.StatusCode != http.StatusTooManyRequests || !t.turns.needed() {
			return response, err
		}
		again, err := t.turns.rejected(r.Context(), c, response)
		if err != nil || !again {
			return response, err
		}
	}
}

// sendAuthenticated sends the request with its portal's credential, and once more with
// another one if HubSpot answers 401, unless that has been done before.
func (t *authenticate) sendAuthenticated(r *http.Request, c *call) (*http.Response, error) {
	began := time.Now()
	credential, err := t.credentials.Credential(r.Context(), c.portal)
	if c.attempts == 0 {
		c.spans.credential = time.Since(c.began) - c.spans.turn
	} else {
		c.spans.credential += time.Since(began)
	}
	if err != nil {
		return nil, err
	}
	response, err := t.send(r, c, credential)
	response, err = noteAnswer(credential, response, err)
	if err != nil || response.StatusCode != http.StatusUnauthorized || c.renewed {
		return response, err
	}
	c.renewed = true
	return t.tryAgain(r, c, credential, response)
}

// tryAgain sends the request with another credential than the rejected one.
// Where that cannot be, the rejection is the answer.
func (t *authenticate) tryAgain(r *http.Request, c *call, rejected *tokens.Credential, response *http.Response) (*http.Response, error) {
	if c.body != nil {
		// Before the answer is read: a connection that the body was not sent
		// whole on must not be used again.
		c.body.EndAttempt()
	}
	category := readCategory(response)
	if c.body != nil && !c.body.Repeatable() {
		// The credential is renewed all the same: the client's own next try
		// then works.
		go t.renew(context.WithoutCancel(r.Context()), rejected, category)
		t.metrics.secondTry(tryBody)
		return response, nil
	}
	began := time.Now()
	other, err := t.renew(r.Context(), rejected, category)
	c.spans.renewal = time.Since(began)
	if err != nil && r.Context().Err() == nil {
		t.metrics.secondTry(tryCredential)
		return response, nil
	}
	_ = response.Body.Close()
	if err != nil {
		return nil, err // to a client that has left
	}
	response, err = t.send(r, c, other)
	switch {
	case err == nil && response.StatusCode != http.StatusUnauthorized:
		t.metrics.secondTry(tryAccepted)
	case err == nil:
		t.metrics.secondTry(tryRejected)
	case r.Context().Err() == nil:
		t.metrics.secondTry(tryFailed)
	}
	return noteAnswer(other, response, err)
}

func (t *authenticate) renew(ctx context.Context, rejected *tokens.Credential, category string) (*tokens.Credential, error) {
	return t.credentials.Renew(ctx, rejected, category == "EXPIRED_AUTHENTICATION")
}

// noteAnswer notes what HubSpot's answer says of the credential.
func noteAnswer(credential *tokens.Credential, response *http.Response, err error) (*http.Response, error) {
	if err == nil {
		credential.Answered(response.StatusCode)
	}
	return response, err
}

// send sends the request with the credential, if there is one.
func (t *authenticate) send(r *http.Request, c *call, credential *tokens.Credential) (*http.Response, error) {
	out := r.WithContext(r.Context())
	if credential != nil {
		c.used = append(c.used, credential)
		attach(out, credential)
	}
	if c.body != nil {
		out.Trailer = c.trailer()
		out.Body = c.fill(out.Trailer, c.body.Reader())
		// For connections that turn out to be dead before anything was
		// written to them.
		out.GetBody = func() (io.ReadCloser, error) {
			if !c.body.Repeatable() {
				return nil, http.ErrBodyReadAfterClose
			}
			return c.fill(out.Trailer, c.body.Reader()), nil
		}
	}
	c.attempts++
	began := time.Now()
	response, err := t.upstream.RoundTrip(out)
	ended := time.Now()
	c.spans.upstream += ended.Sub(began)
	c.spans.header = ended.Sub(c.began)
	if credential != nil {
		t.turns.sent(c, response, err, began)
	}
	if err != nil {
		return nil, err
	}
	if response.StatusCode < 200 {
		// net/http's server would panic over what is none of HTTP's, and 101
		// switches to another protocol, which nobody has asked for.
		_ = response.Body.Close()
		return nil, errStatus
	}
	t.metrics.wait.Observe(ended.Sub(began).Seconds())
	return response, nil
}

var errStatus = errors.New("the answer's status is not one that ends a request")

// attach adds the credential to the request of one attempt, which shares header and
// URL with that of the others.
func attach(r *http.Request, credential *tokens.Credential) {
	if credential.Kind != tokens.APIKey {
		r.Header = maps.Clone(r.Header)
		r.Header["Authorization"] = []string{"Bearer " + credential.Secret.Reveal()}
		return
	}
	u := *r.URL
	if q := u.RawQuery; q != "" && q[len(q)-1] != '&' {
		u.RawQuery += "&"
	}
	u.RawQuery += "hapikey=" + url.QueryEscape(credential.Secret.Reveal())
	r.URL = &u
}
