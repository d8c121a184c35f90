package hubspot

import (
	"context"
	"encoding/json"
	"net/url"
	"path"
	"strings"

	"hubspot-auth-proxy/tokens/secret"
)

// CallbackPath is the path at which the admin listener handles the browser that HubSpot sends
// back after [App.AuthorizeURL].
const CallbackPath = "/callback"

// AuthorizeURL returns the URL of HubSpot's page on which a person gives the app access
// to a portal. page is the address of that page without parameters. Scopes and optional
// scopes are separated by spaces; HubSpot grants an optional scope only if the portal has
// that feature. Afterwards HubSpot redirects the browser to redirectURL with the state
// and a code for [App.Exchange].
// https://developers.hubspot.com/docs/apps/legacy-apps/authentication/working-with-oauth
func (a *App) AuthorizeURL(page, redirectURL, scopes, optionalScopes, state string) string {
	query := url.Values{
		"client_id":    {a.ClientID},
		"redirect_uri": {redirectURL},
		"scope":        {scopes},
		"state":        {state},
	}
	if optionalScopes != "" {
		query.Set("optional_scope", optionalScopes)
	}
	// HubSpot's page needs %20 between scopes, and Encode writes a plus.
	return page + "?" + strings.ReplaceAll(query.Encode(), "+", "%20")
}

// Exchange exchanges the code that HubSpot sent with the browser for the first tokens of
// a grant, by one call of the token endpoint. redirectURL must be the one that was given
// to [App.AuthorizeURL]. An answer without a refresh token is an error. The error is an
// [*Error].
func (a *App) Exchange(ctx context.Context, code, redirectURL string) (Token, error) {
	token, err := a.call(ctx, url.Values{
		"grant_type":   {"authorization_code"},
		"redirect_uri": {redirectURL},
		"code":         {code},
	})
	if err == nil && token.Refresh.IsZero() {
		return Token{}, &Error{Status: 200, Problem: "the answer has no refresh_token"}
	}
	return token, err
}

// Introspect returns the portal of an access token that is valid now. The error is an
// [*Error].
func (a *App) Introspect(ctx context.Context, access secret.Text) (portal string, err error) {
	body, _, err := a.post(ctx, a.besideToken("introspect"), url.Values{
		"token":           {access.Reveal()},
		"token_type_hint": {"access_token"},
	})
	if err != nil {
		return "", err
	}
	// The answer repeats the token, so no part of the answer goes into an error.
	var answer struct {
		Active bool            `json:"active"`
		HubID  json.RawMessage `json:"hub_id"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return "", &Error{Status: 200, Problem: "the answer is not JSON"}
	}
	portal = digits(answer.HubID)
	if !answer.Active || portal == "" {
		return "", &Error{Status: 200, Problem: "the token is not a valid token of a portal"}
	}
	return portal, nil
}

// Revoke revokes a refresh token at HubSpot, which then issues no further access tokens
// for it. Access tokens that were issued before stay valid until they expire. The error
// is an [*Error].
func (a *App) Revoke(ctx context.Context, refresh secret.Text) error {
	_, _, err := a.post(ctx, a.besideToken("revoke"), url.Values{
		"token":           {refresh.Reveal()},
		"token_type_hint": {"refresh_token"},
	})
	return err
}

// besideToken returns the URL of an endpoint below the token endpoint. HubSpot's v1 has
// no such endpoint that takes the token in the body, so besideToken returns that of v3,
// which accepts the tokens of v1.
func (a *App) besideToken(name string) string {
	u, err := url.Parse(a.TokenURL)
	if err != nil {
		return a.TokenURL // post reports that this URL is not valid
	}
	if path.Base(path.Dir(u.Path)) == "v1" {
		u.Path = path.Join(path.Dir(path.Dir(u.Path)), "v3", "token")
	}
	u.Path = strings.TrimSuffix(u.Path, "/") + "/" + name
	u.RawPath = ""
	return u.String()
}
