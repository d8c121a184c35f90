// Package hubspot speaks with HubSpot's OAuth token endpoint, and tells what
// its errors mean for whoever has to act on them.
//
// It is a client of its own rather than golang.org/x/oauth2, which tells
// neither a lasting error from a passing one nor what to do about it, may send
// a refresh twice to find out how to authenticate, and puts the answer's body,
// tokens and all, into its error texts.
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

// maxBody is how much of the token endpoint's answer is read, in bytes. Real
// answers have about 1 KB.
const maxBody = 64 << 10

// An App is the HubSpot app on whose behalf tokens are renewed. Its fields are
// not to be changed once it is in use; it is then safe for concurrent use. Only
// [App.SetSecret] changes an app in use.
type App struct {
	ClientID     string
	ClientSecret secret.Text

	// TokenURL is the token endpoint, of any version: HubSpot's
	// /oauth/v1/token, /oauth/v3/token and dated ones take the same form and
	// answer with the same fields.
	// https://developers.hubspot.com/docs/api-reference/legacy/authentication/oauth-tokens/v1/migration-guide
	TokenURL string

	// Client sends the requests. It must not follow redirects, which would
	// carry the client secret to another place; [NewClient] makes one.
	Client *http.Client

	changed atomic.Pointer[secret.Text] // the client secret, if it was changed
}

// SetSecret changes the client secret of an app that is in use.
func (a *App) SetSecret(to secret.Text) { a.changed.Store(&to) }

// Secret returns the client secret as it is now.
func (a *App) Secret() secret.Text {
	if changed := a.changed.Load(); changed != nil {
		return *changed
	}
	return a.ClientSecret
}

// Fingerprint distinguishes client ids and secrets from each other, without
// revealing a secret: those are too random to be found from it.
func (a *App) Fingerprint() string {
	sum := sha256.Sum256([]byte("app\x00" + a.ClientID + "\x00" + a.Secret().Reveal()))
	return hex.EncodeToString(sum[:8])
}

// NewClient returns a client for an [App]: it follows no redirect, and gives a
// call up after timeout.
func NewClient(transport http.RoundTripper, timeout time.Duration) *http.Client {
	return &http.Client{
		Transport:     transport,
		Timeout:       timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// A Token is what the token endpoint gave.
type Token struct {
	Access secret.Text

	// Refresh is empty if the answer had none: the former one then stays
	// valid.
	Refresh secret.Text

	// Life is how long the access token is valid from the moment it was
	// issued: 30 minutes, as HubSpot does it today.
	Life time.Duration

	// Portal is whose token it is, empty if the answer did not say.
	Portal string

	// App is the client id of the app that it was given to.
	App string

	// Scopes are those that were granted, with spaces in between; empty if the
	// answer did not say.
	Scopes string
}

// Refresh exchanges a refresh token for a new access token, by one call of the
// token endpoint. The error is an [*Error], whatever went wrong.
func (a *App) Refresh(ctx context.Context, refresh secret.Text) (Token, error) {
	return a.call(ctx, url.Values{
		"grant_type":    {"refresh_token"},
		"refresh_token": {refresh.Reveal()},
	})
}

// call asks the token endpoint for a token.
func (a *App) call(ctx context.Context, form url.Values) (Token, error) {
	body, contentType, err := a.post(ctx, a.TokenURL, form)
	if err != nil {
		return Token{}, err
	}
	token, err := parseToken(contentType, body)
	token.App = a.ClientID
	return token, err
}

// post posts the form, with the app's credentials in it: HubSpot takes them in
// the body only, not by HTTP Basic. It returns the body of an answer with
// status 200.
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

// parseToken takes the answer of a call that succeeded apart. An answer that
// lacks something is an error that passes: better to ask again than to store a
// credential that does not work.
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
	case err != nil || seconds <= 0 || seconds > maxLife:
		return problem("the answer has no usable expires_in")
	}
	return Token{
		Access:  secret.New(answer.AccessToken),
		Refresh: secret.New(answer.RefreshToken),
		Life:    time.Duration(seconds) * time.Second,
		Portal:  digits(answer.HubID),
		Scopes:  scopesOf(answer.Scopes),
	}, nil
}

// maxScopes is how many bytes of scopes are kept. HubSpot has some 200 scopes.
const maxScopes = 16 << 10

var scope = regexp.MustCompile(`^[A-Za-z0-9._:-]+$`)

// scopesOf returns a JSON array of scopes as text, or nothing if it is none: they are
// for people, and a renewal does not fail because of them.
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

// digits returns a JSON number's text, or nothing if it is none: who renews a
// token can do without a hub_id.
func digits(number json.RawMessage) string {
	if _, err := strconv.ParseUint(string(number), 10, 63); err != nil {
		return ""
	}
	return string(number)
}

// maxLife keeps a nonsensical expires_in, in seconds, from overflowing a
// time.Duration: ten years.
const maxLife = 10 * 365 * 24 * 60 * 60
