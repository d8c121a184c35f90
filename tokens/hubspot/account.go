package hubspot

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"hubspot-auth-proxy/tokens/secret"
)

// An AccountError is why HubSpot does not say whose a credential is. It has
// neither the address, which may have an API key in it, nor what was answered,
// which may be an echo of what was sent.
type AccountError struct {
	// Status is the HTTP status. Zero: there was no answer. 200: it names no
	// portal.
	Status int

	cause error
}

// Error says what HubSpot answered.
func (e *AccountError) Error() string {
	switch e.Status {
	case 0:
		return fmt.Sprintf("no answer from HubSpot: %v", secret.Cause(e.cause))
	case http.StatusOK:
		return "HubSpot's answer names no portal"
	case http.StatusUnauthorized:
		return "HubSpot does not take the credential (HTTP 401)"
	default:
		return fmt.Sprintf("HubSpot does not tell whose the credential is (HTTP %d)", e.Status)
	}
}

// Account asks HubSpot, at upstream, for the portal that a credential belongs
// to: an access token, or a developer API key. The client must not follow
// redirects. The error is an [*AccountError].
func Account(ctx context.Context, client *http.Client, upstream *url.URL, credential secret.Text, isKey bool) (portal string, err error) {
	address := upstream.JoinPath("account-info", "v3", "details")
	header := http.Header{"Accept": {"application/json"}}
	if isKey {
		address.RawQuery = url.Values{"hapikey": {credential.Reveal()}}.Encode()
	} else {
		header.Set("Authorization", "Bearer "+credential.Reveal())
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address.String(), nil)
	if err != nil {
		return "", &AccountError{cause: secret.Fault("the address is not valid")}
	}
	request.Header = header
	response, err := client.Do(request)
	if err != nil {
		return "", &AccountError{cause: err}
	}
	defer response.Body.Close()
	var answer struct {
		PortalID json.Number `json:"portalId"`
	}
	err = json.NewDecoder(io.LimitReader(response.Body, maxBody)).Decode(&answer)
	if response.StatusCode != http.StatusOK || err != nil || !ValidPortal(answer.PortalID.String()) {
		return "", &AccountError{Status: response.StatusCode}
	}
	return answer.PortalID.String(), nil
}
