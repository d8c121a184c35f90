package proxy

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"hubspot-auth-proxy/proxy/wire"
	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/secret"
)

// maxOAuthBody limits the body of a call to HubSpot's OAuth endpoints that has a client
// key, in bytes. Such a body is read completely before it is forwarded.
const maxOAuthBody = 1 << 20

// tokenInfoPath is the endpoint by which apps check a private app's token. Its credential
// is the field tokenKey of the body. Clients of the proxy send their client key there.
const tokenInfoPath = "/oauth/v2/private-apps/get/access-token-info"

// oauth checks calls of HubSpot's OAuth endpoints, whose credential is in the body. It is
// safe for concurrent use.
type oauth struct {
	gate       *gate
	tokenCalls tokenCalls
}

// admit reads the body of a call of an OAuth endpoint, and refuses the call if the body
// would carry the client key to HubSpot. It admits every other call unchanged.
func (o *oauth) admit(rw http.ResponseWriter, c *call) *refusal {
	switch {
	case c.tokenCall:
		return o.tokenCalls.admit(rw, c)
	case c.client == nil || !c.target.IsOAuth() || !hasBody(c.request):
		return nil
	case len(c.request.Header["Content-Encoding"]) > 0:
		return requestInvalid("The request's body is encoded (Content-Encoding), so the proxy cannot check it for the client key. Send it without Content-Encoding.")
	}
	c.bodyRead = true
	body, err := io.ReadAll(io.LimitReader(c.request.Body, maxOAuthBody+1))
	switch {
	case err != nil:
		return bodyInvalid()
	case len(body) > maxOAuthBody:
		return requestInvalid("The request's body is longer than 1 MiB, which is the limit for calls under /oauth/.")
	}
	if c.request.Method == http.MethodPost && c.target.Path == tokenInfoPath {
		var refused *refusal
		if body, refused = o.exchangeKey(c, body); refused != nil {
			return refused
		}
	}
	if wire.Carries(string(body), c.key.Reveal()) {
		return requestInvalid("The request's body contains the client key, which must not reach HubSpot. Calls under /oauth/ take HubSpot's own credentials in the body.")
	}
	c.request.Body = io.NopCloser(bytes.NewReader(body))
	if c.request.ContentLength >= 0 {
		c.request.ContentLength = int64(len(body))
	}
	return nil
}

// exchangeKey replaces tokenKey in the body by the portal's token, if tokenKey is the
// client's key. It returns any other body unchanged.
func (o *oauth) exchangeKey(c *call, body []byte) ([]byte, *refusal) {
	var fields map[string]json.RawMessage
	var key string
	if json.Unmarshal(body, &fields) != nil || json.Unmarshal(fields["tokenKey"], &key) != nil || !c.presents(key) {
		return body, nil
	}
	if refused := o.gate.choosePortal(&c.admission); refused != nil {
		return nil, refused
	}
	if refused := o.gate.authorize(c.request, &c.admission); refused != nil {
		return nil, refused
	}
	credential, err := o.gate.Credentials.Credential(c.request.Context(), c.portal)
	switch {
	case err != nil:
		return nil, refusalFor(c, err)
	case credential.Kind == tokens.APIKey:
		return nil, requestInvalid("Portal " + c.portal + " is connected by an API key, so it has no token to look up.")
	}
	c.used = append(c.used, credential) // so that conceal removes it from the answer's header
	c.tokenInfo = true
	fields["tokenKey"], _ = json.Marshal(credential.Secret.Reveal()) // a string cannot fail
	c.request.Header.Del("Accept-Encoding")                          // withoutToken has to read the answer
	changed, err := json.Marshal(fields)
	if err != nil {
		return nil, bodyInvalid()
	}
	return changed, nil
}

// presents reports whether the text is what the client uses as its credential: its client
// key or, in a tunnel, the placeholder that it sends as its token.
func (c *call) presents(text string) bool {
	return text == c.key.Reveal() || c.tunnel != nil && slices.Contains(wire.Credentials(c.request.Header, c.target.Query), text)
}

const errUnreadable = secret.Fault("HubSpot's answer about the token is too long, encoded, or was broken off")

// withoutToken removes the portal's token from the answer's body, if HubSpot repeats it
// there.
func (c *call) withoutToken(response *http.Response) error {
	text, err := io.ReadAll(io.LimitReader(response.Body, maxOAuthBody+1))
	_ = response.Body.Close()
	if err != nil || len(text) > maxOAuthBody || response.Header.Get("Content-Encoding") != "" {
		return errUnreadable
	}
	body := string(text)
	for _, form := range c.forms() {
		body = strings.ReplaceAll(body, form, wire.Redacted)
	}
	response.Body = io.NopCloser(strings.NewReader(body))
	response.ContentLength = int64(len(body))
	response.Header.Del("Transfer-Encoding")
	response.Header["Content-Length"] = []string{strconv.Itoa(len(body))}
	return nil
}
