package hubspot

import (
	"context"
	"encoding/json"
	"net/url"
	"path"
	"strings"

	"hubspot-auth-proxy/tokens/secret"
)

// AuthorizeURL returns the page of HubSpot's on which a person lets the app
// into a portal; page is its address without parameters. Scopes are separated
// by spaces; optional ones are asked for if the portal has them. HubSpot sends
// the browser to the redirect URL then, with state and a code.
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
	// HubSpot's page wants %20 between scopes, where Encode writes a plus.
	return page + "?" + strings.ReplaceAll(query.Encode(), "+", "%20")
}

// Exchange gives the code that HubSpot sent with the browser for a grant's
// first tokens. The redirect URL must be the one of the authorize URL. The
// error is an [*Error].
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

// Introspect returns the portal whose access token it is. The error is an
// [*Error].
func (a *App) Introspect(ctx context.Context, access secret.Text) (portal string, err error) {
	body, _, err := a.post(ctx, a.besideToken("introspect"), url.Values{
		"token":           {access.Reveal()},
		"token_type_hint": {"access_token"},
	})
	if err != nil {
		return "", err
	}
	// The answer repeats the token: nothing of it goes into an error.
	var answer struct {
		Active bool            `json:"active"`
		HubID  json.RawMessage `json:"hub_id"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return "", &Error{Status: 200, Problem: "the answer is not JSON"}
	}
	portal = digits(answer.HubID)
	if !answer.Active || portal == "" {
		return "", &Error{Status: 200, Problem: "the token is not one of a portal's"}
	}
	return portal, nil
}

// Revoke makes HubSpot forget a refresh token, so that no access token is given for it
// any more. Those that were given live on until they expire. The error is an
// [*Error].
func (a *App) Revoke(ctx context.Context, refresh secret.Text) error {
	_, _, err := a.post(ctx, a.besideToken("revoke"), url.Values{
		"token":           {refresh.Reveal()},
		"token_type_hint": {"refresh_token"},
	})
	return err
}

// besideToken returns an endpoint beside the token endpoint. HubSpot's v1 has none
// that takes the token in the body; the next version serves its tokens as well.
func (a *App) besideToken(name string) string {
	u, err := url.Parse(a.TokenURL)
	if err != nil {
		return a.TokenURL // and fails as that does
	}
	if path.Base(path.Dir(u.Path)) == "v1" {
		u.Path = path.Join(path.Dir(path.Dir(u.Path)), "v3", "token")
	}
	u.Path = strings.TrimSuffix(u.Path, "/") + "/" + name
	u.RawPath = ""
	return u.String()
}
