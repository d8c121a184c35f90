package proxy

import (
	"context"
	"io"
	"maps"
	"net/http"
	"net/url"
	"time"

	"hubspot-auth-proxy/proxy/replay"
	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/secret"
)

// authenticate is an http.RoundTripper that sends a request with its portal's
// credential, and once more with another one if HubSpot answers 401.
type authenticate struct {
	credentials Credentials
	upstream    http.RoundTripper
	memory      *replay.Memory
	bodyLimit   int64 // bytes of a body that are kept for a second try
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
// another one if HubSpot answers 401, at most once for a call.
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

// tryAgain sends the request again, with another credential than the rejected one. If
// there is no other credential, or too much of the body was read, tryAgain returns the
// 401 as it came.
func (t *authenticate) tryAgain(r *http.Request, c *call, rejected *tokens.Credential, response *http.Response) (*http.Response, error) {
	if c.body != nil {
		// End the attempt before reading the answer: if the body was not sent
		// completely, its connection must not be used again.
		c.body.EndAttempt()
	}
	category := readCategory(response)
	if c.body != nil && !c.body.Repeatable() {
		// Renew the credential anyway, so that the client's own retry works.
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
		return nil, err // the client has left
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

// noteAnswer records in the credential whether HubSpot accepted it, and returns response and
// err.
func noteAnswer(credential *tokens.Credential, response *http.Response, err error) (*http.Response, error) {
	if err == nil {
		credential.Answered(response.StatusCode)
	}
	return response, err
}

// send makes one attempt. A nil credential means that none is attached.
func (t *authenticate) send(r *http.Request, c *call, credential *tokens.Credential) (*http.Response, error) {
	out := r.WithContext(r.Context())
	if credential != nil {
		if credential.Kind == tokens.APIKey && c.target.Path == "*" {
			return nil, errNoQuery
		}
		c.used = append(c.used, credential)
		attach(out, credential)
	}
	if c.body != nil {
		out.Trailer = c.trailer()
		out.Body = c.fill(out.Trailer, c.body.Reader())
		// The upstream needs GetBody to repeat a request whose idle connection
		// was dead.
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
		// A status below 100 would make net/http's server panic, and 101 would
		// switch to a protocol that the client did not ask for.
		_ = response.Body.Close()
		return nil, errStatus
	}
	c.connection = response.Header["Connection"]
	t.metrics.wait.Observe(ended.Sub(began).Seconds())
	return response, nil
}

// errNoQuery means that the portal's credential is an API key and the target cannot have a
// query (RFC 9112 section 3.2.4).
const errNoQuery = secret.Fault("an API key cannot be attached to the target *, which has no query")

const errStatus = secret.Fault("the answer's status is below 200, which cannot be a final status")

// attach adds the credential to the request of one attempt. It copies the header or the
// URL before it changes them, because the attempts share both.
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
