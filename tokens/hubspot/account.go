package hubspot

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"hubspot-auth-proxy/tokens/secret"
)

// An AccountError is the error of [Account] and [Scopes]. The error's text contains neither
// the request's address, which may have an API key in it, nor HubSpot's answer, which may
// repeat the request.
type AccountError struct {
	// Status is the HTTP status. 0 means that there was no answer. 200 means that the
	// answer does not have the expected content.
	Status int

	cause error
}

// Error describes HubSpot's answer in one line without secrets.
func (e *AccountError) Error() string {
	switch e.Status {
	case 0:
		return fmt.Sprintf("no answer from HubSpot: %v", secret.Cause(e.cause))
	case http.StatusOK:
		return "HubSpot's answer names no portal"
	case http.StatusUnauthorized:
		return "HubSpot does not accept the credential (HTTP 401)"
	default:
		return fmt.Sprintf("HubSpot does not report the credential's portal (HTTP %d)", e.Status)
	}
}

// Account returns the portal of a credential, by one call of HubSpot at upstream. The
// credential is a developer API key if isKey is set, otherwise an access token. The
// client must not follow redirects, which would carry the credential to another server.
// The error is an [*AccountError].
func Account(ctx context.Context, client *http.Client, upstream *url.URL, credential secret.Text, isKey bool) (portal string, err error) {
	address := upstream.JoinPath("account-info", "v3", "details")
	header := http.Header{"Accept": {"application/json"}}
	if isKey {
		address.RawQuery = url.Values{"hapikey": {credential.Reveal()}}.Encode()
	} else {
		header.Set("Authorization", "Bearer "+credential.Reveal())
	}
	var answer struct {
		PortalID json.Number `json:"portalId"`
	}
	if err := fetch(ctx, client, http.MethodGet, address, header, nil, &answer); err != nil {
		return "", err
	}
	if !ValidPortal(answer.PortalID.String()) {
		return "", &AccountError{Status: http.StatusOK}
	}
	return answer.PortalID.String(), nil
}

// privateAppPath is the path of the endpoint that returns the scopes of a private app's
// access token.
// https://developers.hubspot.com/docs/apps/legacy-apps/private-apps/overview
const privateAppPath = "oauth/v2/private-apps/get/access-token-info"

// Scopes returns the scopes of a private app's access token, sorted and separated by
// spaces, by one call of HubSpot at upstream. It returns "" if HubSpot does not report
// them. The client must not follow redirects. The error is an [*AccountError].
func Scopes(ctx context.Context, client *http.Client, upstream *url.URL, access secret.Text) (scopes string, err error) {
	body, err := json.Marshal(map[string]string{"tokenKey": access.Reveal()})
	if err != nil {
		return "", &AccountError{cause: secret.Fault("the token cannot be sent")}
	}
	var answer struct {
		Scopes json.RawMessage `json:"scopes"`
	}
	header := http.Header{"Accept": {"application/json"}, "Content-Type": {"application/json"}}
	if err := fetch(ctx, client, http.MethodPost, upstream.JoinPath(privateAppPath), header, body, &answer); err != nil {
		return "", err
	}
	return scopesOf(answer.Scopes), nil
}

// fetch sends a request and decodes the JSON of the answer. The error is an [*AccountError].
func fetch(ctx context.Context, client *http.Client, method string, address *url.URL, header http.Header, body []byte, answer any) error {
	request, err := http.NewRequestWithContext(ctx, method, address.String(), bytes.NewReader(body))
	if err != nil {
		return &AccountError{cause: secret.Fault("the address is not valid")}
	}
	request.Header = header
	response, err := client.Do(request)
	if err != nil {
		return &AccountError{cause: err}
	}
	defer response.Body.Close()
	err = json.NewDecoder(io.LimitReader(response.Body, maxBody)).Decode(answer)
	if err != nil || response.StatusCode != http.StatusOK {
		return &AccountError{Status: response.StatusCode}
	}
	return nil
}
