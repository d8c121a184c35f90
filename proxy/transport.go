package proxy

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"time"

	"hubspot-auth-proxy/tokens"
)

// maxRejection is how much of a 401's body is read, in bytes, to learn its
// category and to use its connection again.
const maxRejection = 64 << 10

// transport sends a request with its portal's credential, and once more with
// another one if HubSpot answers 401.
type transport struct {
	credentials Credentials
	upstream    http.RoundTripper
}

// RoundTrip implements http.RoundTripper, for requests whose context has a
// call.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	c := callOf(r.Context())
	if c.portal == "" {
		return t.send(r, c, nil)
	}
	began := time.Now()
	credential, err := t.credentials.Credential(r.Context(), c.portal)
	c.spans.credential = time.Since(began)
	if err != nil {
		return nil, err
	}
	response, err := t.send(r, c, credential)
	if err != nil || response.StatusCode != http.StatusUnauthorized {
		return accepted(credential, response, err)
	}
	if c.body != nil {
		// Before the answer is read: a connection that the body was not sent
		// whole on must not be used again.
		c.body.endAttempt()
	}
	category := readCategory(response)
	if c.body != nil && !c.body.repeatable() {
		// The credential is renewed all the same: the client's own next try
		// then works.
		go t.renew(context.WithoutCancel(r.Context()), credential, category)
		return response, nil
	}
	began = time.Now()
	other, err := t.renew(r.Context(), credential, category)
	c.spans.renewal = time.Since(began)
	if err != nil && r.Context().Err() == nil {
		return response, nil
	}
	_ = response.Body.Close()
	if err != nil {
		return nil, err // to a client that has left
	}
	response, err = t.send(r, c, other)
	return accepted(other, response, err)
}

func (t *transport) renew(ctx context.Context, rejected *tokens.Credential, category string) (*tokens.Credential, error) {
	return t.credentials.Renew(ctx, rejected, category == "EXPIRED_AUTHENTICATION")
}

// accepted notes it if HubSpot took the credential.
func accepted(credential *tokens.Credential, response *http.Response, err error) (*http.Response, error) {
	if err == nil && response.StatusCode != http.StatusUnauthorized {
		credential.MarkServed()
	}
	return response, err
}

// send sends the request with the credential, if there is one.
func (t *transport) send(r *http.Request, c *call, credential *tokens.Credential) (*http.Response, error) {
	out := r.WithContext(r.Context())
	if credential != nil {
		c.used = append(c.used, credential)
		attach(out, credential)
	}
	out.Body = nil
	if c.body != nil {
		out.Trailer = c.trailer()
		out.Body = c.fill(out.Trailer, c.body.reader())
		// For connections that turn out to be dead before anything was
		// written to them.
		out.GetBody = func() (io.ReadCloser, error) {
			if !c.body.repeatable() {
				return nil, errBodyClosed
			}
			return c.fill(out.Trailer, c.body.reader()), nil
		}
	}
	c.attempts++
	began := time.Now()
	response, err := t.upstream.RoundTrip(out)
	c.spans.upstream = time.Since(began)
	if err == nil && response.StatusCode < 100 {
		_ = response.Body.Close()
		return nil, errNoStatus // net/http's server would panic over it
	}
	return response, err
}

var errNoStatus = errors.New("the answer's status is not one of HTTP")

// attach adds the credential to a request, which no other attempt shares a
// changed part with.
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

// readCategory reads the category of a 401, and leaves the response as it came.
// One that cannot be made out is empty.
func readCategory(response *http.Response) string {
	head, err := io.ReadAll(io.LimitReader(response.Body, maxRejection))
	rest := io.Reader(response.Body)
	if err != nil {
		rest = failingReader{err}
	}
	response.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(head), rest), response.Body}

	var answer struct {
		Category string `json:"category"`
	}
	_ = json.Unmarshal(plain(head, response.Header.Get("Content-Encoding")), &answer)
	return answer.Category
}

// plain undoes gzip, which is the one encoding that every client of HubSpot's
// asks for; others are left as they are.
func plain(body []byte, encoding string) []byte {
	if encoding != "gzip" {
		return body
	}
	reader, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return nil
	}
	decoded, err := io.ReadAll(io.LimitReader(reader, maxRejection))
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return decoded
}

// failingReader fails as the reader did that it stands for.
type failingReader struct{ err error }

func (r failingReader) Read([]byte) (int, error) { return 0, r.err }
