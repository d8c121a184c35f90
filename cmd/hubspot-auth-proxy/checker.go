package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspot"
	"hubspot-auth-proxy/tokens/secret"
)

// A finding is what checking a portal has found.
type finding struct {
	ID   string      `json:"id"`
	Name string      `json:"name,omitempty"`
	Kind tokens.Kind `json:"kind,omitempty"`

	// OK tells that HubSpot takes the credential for that portal's.
	OK bool `json:"ok"`

	// HubSpotPortal is whose HubSpot says the credential is.
	HubSpotPortal string `json:"hubspot_portal,omitempty"`

	Problem string `json:"problem,omitempty"`
	Remedy  string `json:"remedy,omitempty"`
}

// String tells the finding in one line.
func (f finding) String() string {
	switch {
	case f.OK:
		return fmt.Sprintf("%s: right, HubSpot names portal %s", titled(f.ID, f.Name), f.HubSpotPortal)
	case f.Remedy == "":
		return fmt.Sprintf("%s: %s", titled(f.ID, f.Name), shown(f.Problem))
	default:
		return fmt.Sprintf("%s: %s; %s", titled(f.ID, f.Name), shown(f.Problem), f.Remedy)
	}
}

// trouble is a problem that has a remedy of its own.
type trouble struct{ problem, remedy string }

func (t *trouble) Error() string { return t.problem }

// checker asks HubSpot whose credentials are.
type checker struct {
	*store
	upstream *url.URL
	client   *http.Client
}

// check asks HubSpot whose the portal's credential is.
func (k *checker) check(ctx context.Context, id string) finding {
	p, err := k.source.Show(ctx, id)
	f := finding{ID: id, Name: p.Name, Kind: p.Kind}
	switch {
	case err == nil && p.State == stateRemoved:
		err = tokens.ErrNotConnected
	case err == nil && p.State == stateUnusable:
		err = errors.New(p.Problem)
	case err == nil && p.State == stateEnded:
		err = &tokens.EndedError{Portal: id, Code: p.Problem}
	case err == nil:
		f.HubSpotPortal, err = k.whose(ctx, p)
	}
	switch {
	case err != nil:
		f.Problem, f.Remedy = err.Error(), remedyFor(p, err)
	case f.HubSpotPortal != id:
		f.Problem = "wrong, HubSpot says that the credential is of portal " + f.HubSpotPortal
		f.Remedy = fmt.Sprintf("give this portal its own with portal set %s, and the other to portal set %s", id, f.HubSpotPortal)
	default:
		f.OK = true
	}
	return f
}

// whose returns the portal that HubSpot says the credential is of.
func (k *checker) whose(ctx context.Context, p tokens.Portal) (string, error) {
	if p.Kind == tokens.OAuth && k.app == nil {
		return "", &trouble{"HubSpot tells whose an OAuth token is to its app only", "set HUBSPOT_CLIENT_ID and HUBSPOT_CLIENT_SECRET as the proxy has them"}
	}
	credential, err := k.source.Credential(ctx, p.ID)
	if err != nil {
		return "", err
	}
	if p.Kind != tokens.OAuth {
		return k.account(ctx, credential)
	}
	portal, err := k.app.Introspect(ctx, credential.Secret)
	if answer := (*hubspot.Error)(nil); errors.As(err, &answer) && answer.Status == http.StatusOK {
		// HubSpot does not take the token, before its time is over. The proxy
		// would renew it now.
		credential, err = k.source.Renew(ctx, credential, false)
		if errors.Is(err, tokens.ErrNoOther) {
			err = &trouble{"HubSpot does not take the access token, which was renewed just now", "try again in a minute"}
		}
		if err != nil {
			return "", err
		}
		portal, err = k.app.Introspect(ctx, credential.Secret)
	}
	return portal, err
}

// account asks HubSpot for the account of a credential that does not expire.
// The errors hold neither the address, which may have an API key in it, nor
// what was answered, which may be an echo of what was sent.
func (k *checker) account(ctx context.Context, credential *tokens.Credential) (string, error) {
	address := k.upstream.JoinPath("account-info", "v3", "details")
	header := http.Header{"Accept": {"application/json"}}
	if credential.Kind == tokens.APIKey {
		address.RawQuery = url.Values{"hapikey": {credential.Secret.Reveal()}}.Encode()
	} else {
		header.Set("Authorization", "Bearer "+credential.Secret.Reveal())
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address.String(), nil)
	if err != nil {
		return "", errors.New("UPSTREAM_URL makes no valid address")
	}
	request.Header = header
	response, err := k.client.Do(request)
	if err != nil {
		return "", &trouble{fmt.Sprintf("no answer from HubSpot: %v", secret.Cause(err)), "check UPSTREAM_URL and whether it can be reached from here"}
	}
	defer response.Body.Close()
	return accountPortal(response, credential.Portal)
}

// accountPortal reads the portal from the answer of HubSpot's account info.
func accountPortal(response *http.Response, id string) (string, error) {
	var answer struct {
		PortalID json.Number `json:"portalId"`
	}
	switch code := response.StatusCode; {
	case code == http.StatusUnauthorized:
		return "", &trouble{"HubSpot does not take the credential (HTTP 401)", "make a new one in HubSpot, and give it to portal set " + id}
	case code != http.StatusOK:
		return "", &trouble{fmt.Sprintf("HubSpot does not tell whose the credential is (HTTP %d)", code), "try again later"}
	}
	err := json.NewDecoder(io.LimitReader(response.Body, 64<<10)).Decode(&answer)
	if err != nil || !hubspot.ValidPortal(answer.PortalID.String()) {
		return "", &trouble{"HubSpot's answer names no portal", "check UPSTREAM_URL"}
	}
	return answer.PortalID.String(), nil
}

// remedyOf says what to do about a portal that cannot be used; nothing if it
// can.
func remedyOf(p tokens.Portal) string {
	switch p.State {
	case stateEnded:
		return fmt.Sprintf("connect it again with portal link --portal %s, or give a new grant to portal set %s refresh_token", p.ID, p.ID)
	case stateUnusable:
		return "give ENCRYPTION_KEYS as the proxies have them, or store the credential anew with portal set " + p.ID
	case stateRemoved:
		return "portal set or portal link connects it again"
	}
	return ""
}

// remedyFor says what to do about an error.
func remedyFor(p tokens.Portal, err error) string {
	var own *trouble
	var endpoint *hubspot.Error
	var ended *tokens.EndedError
	switch {
	case errors.As(err, &own):
		return own.remedy
	case errors.As(err, &ended):
		return remedyOf(tokens.Portal{ID: ended.Portal, State: stateEnded})
	case errors.Is(err, tokens.ErrNotConnected):
		return remedyOf(tokens.Portal{State: stateRemoved})
	case errors.As(err, &endpoint) && endpoint.Kind == hubspot.AppRefused:
		return "check HUBSPOT_CLIENT_ID and HUBSPOT_CLIENT_SECRET"
	case errors.As(err, &endpoint):
		return "try again in a minute"
	case p.State == stateUnusable:
		return remedyOf(p)
	}
	return ""
}
