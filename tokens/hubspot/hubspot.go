// Package hubspot calls HubSpot's OAuth endpoints and its account information, and
// classifies their errors.
//
// The package does not use golang.org/x/oauth2, which does not distinguish transient
// errors from permanent ones, may send a refresh token twice to find out how to
// authenticate, and puts the answer's body, with its tokens, into the text of its errors.
package hubspot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"hubspot-auth-proxy/tokens/secret"
)

// maxBody is the longest answer that is accepted, in bytes. HubSpot's answers have about
// 1 KB.
const maxBody = 64 << 10

// An App is the HubSpot app whose tokens are renewed. An App is safe for concurrent use
// if its fields are not changed. While it is in use, only [App.SetSecret] may change its
// client secret.
type App struct {
	ClientID     string
	ClientSecret secret.Text

	// TokenURL is the URL of the token endpoint, in any version: HubSpot's
	// /oauth/v1/token, /oauth/v3/token and dated versions such as
	// /oauth/2026-03/token take the same form and answer with the same fields.
	// https://developers.hubspot.com/docs/api-reference/legacy/authentication/oauth-tokens/v1/migration-guide
	TokenURL string

	// Client sends the requests. It must not follow redirects, which would carry the
	// client secret to another server. [NewClient] returns such a client.
	Client *http.Client

	changed atomic.Pointer[secret.Text] // the client secret that SetSecret has set
}

// SetSecret changes the client secret of an app that is in use.
func (a *App) SetSecret(to secret.Text) { a.changed.Store(&to) }

// Secret returns the current client secret.
func (a *App) Secret() secret.Text {
	if changed := a.changed.Load(); changed != nil {
		return *changed
	}
	return a.ClientSecret
}

// Fingerprint returns a short hash of the client id and the current client secret. Apps
// with another id or secret have another fingerprint. The secret cannot be found from the
// fingerprint, because client secrets are long and random.
func (a *App) Fingerprint() string {
	sum := sha256.Sum256([]byte("app\x00" + a.ClientID + "\x00" + a.Secret().Reveal()))
	return hex.EncodeToString(sum[:8])
}

// NewClient returns a client for an [App]. The client follows no redirects, and each call
// fails after timeout. 0 means no timeout.
func NewClient(transport http.RoundTripper, timeout time.Duration) *http.Client {
	return &http.Client{
		Transport:     transport,
		Timeout:       timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// A Token is an answer of the token endpoint.
type Token struct {
	// Access is the access token. It is never empty, and valid in a header field.
	Access secret.Text

	// Refresh is the refresh token. Empty means that the answer has none and the
	// former refresh token stays valid.
	Refresh secret.Text

	// ExpiresIn is the time for which the access token is valid after HubSpot has
	// issued it: today 30 minutes.
	ExpiresIn time.Duration

	// Portal is the id of the token's portal. Empty means that the answer has none.
	Portal string

	// App is the client id of the app that the token was issued to.
	App string

	// Scopes are the granted scopes, sorted and separated by spaces. Empty means that
	// the answer has none.
	Scopes string
}

// Refresh exchanges a refresh token for a new access token, by one call of the token
// endpoint. Every error is an [*Error].
func (a *App) Refresh(ctx context.Context, refresh secret.Text) (Token, error) {
	return a.call(ctx, url.Values{
		"grant_type":    {"refresh_token"},
		"refresh_token": {refresh.Reveal()},
	})
}

// call calls the token endpoint with the form and returns the token of its answer.
func (a *App) call(ctx context.Context, form url.Values) (Token, error) {
	body, contentType, err := a.post(ctx, a.TokenURL, form)
	if err != nil {
		return Token{}, err
	}
	token, err := parseToken(contentType, body)
	token.App = a.ClientID
	return token, err
}

// post adds the app's credentials to the form and sends it to the endpoint. HubSpot
// accepts the credentials in the body only, not by HTTP Basic. post returns the body of an
// answer with status 200. The error is an [*Error].
func (a *App) post(ctx context.Context, endpoint string, form url.Values) (body []byte, contentType string, err error) {
	form.Set("client_id", a.ClientID)
	form.Set("client_secret", a.Secret().Reveal())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, "", &Error{Problem: "the token URL is not valid", cause: err}
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	res, err := a.Client.Do(req)
	if err != nil {
		return nil, "", &Error{Problem: "no answer", cause: err}
	}
	defer res.Body.Close()
	body, err = io.ReadAll(io.LimitReader(res.Body, maxBody+1))
	switch {
	case err != nil:
		return nil, "", &Error{Status: res.StatusCode, Problem: "the answer broke off", cause: err}
	case len(body) > maxBody:
		return nil, "", &Error{Status: res.StatusCode, Problem: fmt.Sprintf("the answer is longer than %d bytes", maxBody)}
	case res.StatusCode != http.StatusOK:
		return nil, "", refusal(res, body)
	}
	return body, res.Header.Get("Content-Type"), nil
}

// parseToken parses an answer with status 200. An answer without a usable token is a
// transient error, because a credential that does not work must not be stored.
func parseToken(contentType string, body []byte) (Token, error) {
	problem := func(what string) (Token, error) {
		return Token{}, &Error{Status: http.StatusOK, Problem: what}
	}
	var answer struct {
		AccessToken  string          `json:"access_token"`
		RefreshToken string          `json:"refresh_token"`
		ExpiresIn    json.Number     `json:"expires_in"`
		HubID        json.RawMessage `json:"hub_id"`
		Scopes       json.RawMessage `json:"scopes"`
	}
	if media, _, _ := mime.ParseMediaType(contentType); media == "text/html" {
		return problem("the answer is a web page")
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	if err := decoder.Decode(&answer); err != nil {
		return problem("the answer is not JSON")
	}
	seconds, err := strconv.ParseInt(answer.ExpiresIn.String(), 10, 64)
	switch {
	case answer.AccessToken == "":
		return problem("the answer has no access_token")
	case secret.HeaderUnsafe(answer.AccessToken) >= 0 || secret.HeaderUnsafe(answer.RefreshToken) >= 0:
		return problem("the answer has a token that no header can carry")
	case err != nil || seconds <= 0 || seconds > maxExpiresIn:
		return problem("the answer has no usable expires_in")
	}
	return Token{
		Access:    secret.New(answer.AccessToken),
		Refresh:   secret.New(answer.RefreshToken),
		ExpiresIn: time.Duration(seconds) * time.Second,
		Portal:    digits(answer.HubID),
		Scopes:    scopesOf(answer.Scopes),
	}, nil
}

var portalID = regexp.MustCompile(`^[1-9][0-9]{0,18}$`)

// ValidPortal reports whether id has the form of a portal id (Hub ID).
func ValidPortal(id string) bool { return portalID.MatchString(id) }

// maxScopes is the longest text of scopes that is kept, in bytes. HubSpot has about 200
// scopes.
const maxScopes = 16 << 10

var scope = regexp.MustCompile(`^[A-Za-z0-9._:-]+$`)

// scopesOf returns the scopes of a JSON array, sorted and separated by spaces, or "" if
// list is not such an array or is too long. Scopes are only shown to people, so a renewal
// does not fail because of them.
func scopesOf(list json.RawMessage) string {
	var scopes []string
	if len(list) > 2*maxScopes || json.Unmarshal(list, &scopes) != nil {
		return ""
	}
	scopes = slices.DeleteFunc(scopes, func(s string) bool { return !scope.MatchString(s) })
	slices.Sort(scopes)
	text := strings.Join(slices.Compact(scopes), " ")
	if len(text) > maxScopes {
		return ""
	}
	return text
}

// digits returns the text of a JSON number, or "" if number is not an unsigned integer. A
// renewal needs no hub_id, so it does not fail because of an invalid one.
func digits(number json.RawMessage) string {
	if _, err := strconv.ParseUint(string(number), 10, 63); err != nil {
		return ""
	}
	return string(number)
}

// maxExpiresIn is the longest expires_in that is accepted, in seconds: ten years. A longer one
// might overflow a time.Duration.
const maxExpiresIn = 10 * 365 * 24 * 60 * 60
