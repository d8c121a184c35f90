package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspot"
)

// A finding is the result of checking one portal.
type finding struct {
	ID   string      `json:"id"`
	Name string      `json:"name,omitempty"`
	Kind tokens.Kind `json:"kind,omitempty"`

	// OK is true if HubSpot accepts the credential as that of this portal.
	OK bool `json:"ok"`

	// HubSpotPortal is the portal that the credential belongs to, according to HubSpot.
	HubSpotPortal string `json:"hubspot_portal,omitempty"`

	// Scopes are the granted scopes, separated by spaces. For an OAuth grant they are the
	// scopes of the last token that HubSpot issued. For a private app they are the scopes
	// that HubSpot reports for its token. Empty means that the scopes are not known.
	Scopes string `json:"scopes,omitempty"`

	Problem string `json:"problem,omitempty"`
	Remedy  string `json:"remedy,omitempty"`
}

// String returns the finding as one line.
func (f finding) String() string {
	switch {
	case f.OK:
		text := fmt.Sprintf("%s: right, HubSpot names portal %s", titled(f.ID, f.Name), f.HubSpotPortal)
		if f.Scopes != "" {
			text += "; scopes: " + f.Scopes
		}
		return text
	case f.Remedy == "":
		return fmt.Sprintf("%s: %s", titled(f.ID, f.Name), shown(f.Problem))
	default:
		return fmt.Sprintf("%s: %s; %s", titled(f.ID, f.Name), shown(f.Problem), f.Remedy)
	}
}

// A remediable is an error that includes what the operator can do about it.
type remediable struct{ problem, remedy string }

func (r *remediable) Error() string { return r.problem }

// A checker asks HubSpot which portals credentials belong to.
type checker struct {
	*store
	client *http.Client
}

// check asks HubSpot which portal the credential of portal id belongs to. An error
// becomes part of the finding.
func (k *checker) check(ctx context.Context, id string) finding {
	p, err := k.source.Show(ctx, id)
	f := finding{ID: id, Name: p.Name, Kind: p.Kind}
	switch {
	case err == nil && p.State == tokens.Removed:
		err = tokens.ErrNotConnected
	case err == nil && p.State == tokens.Unusable:
		err = errors.New(p.Problem)
	case err == nil && k.app != nil && p.App != "" && p.App != k.app.ClientID:
		err = &tokens.AppMismatchError{Portal: id, Grant: p.App, Configured: k.app.ClientID}
	case err == nil:
		f.HubSpotPortal, err = k.whose(ctx, p)
	}
	switch {
	case err != nil:
		f.Problem, f.Remedy = err.Error(), remedyFor(p, err)
	case f.HubSpotPortal != id:
		f.Problem = "wrong, HubSpot says that the credential belongs to portal " + f.HubSpotPortal
		f.Remedy = fmt.Sprintf("store this portal's own credential with portal set %s, and this one with portal set %s", id, f.HubSpotPortal)
	default:
		f.OK = true
		f.Scopes = k.scopes(ctx, p)
	}
	return f
}

// scopes returns the scopes of the portal's credential, or "" if they are not known.
func (k *checker) scopes(ctx context.Context, p tokens.Portal) string {
	switch p.Kind {
	case tokens.OAuth:
		now, _ := k.source.Show(ctx, p.ID) // a renewal may have changed the scopes
		return now.Scopes
	case tokens.AccessToken:
		// HubSpot reports no scopes for a service key, although the key is valid. So an error
		// only means that the scopes are not known.
		if credential, err := k.source.Credential(ctx, p.ID); err == nil {
			scopes, _ := hubspot.Scopes(ctx, k.client, k.settings.UpstreamURL, credential.Secret)
			return scopes
		}
	}
	return ""
}

// whose returns the portal that the credential belongs to, according to HubSpot.
func (k *checker) whose(ctx context.Context, p tokens.Portal) (string, error) {
	if p.Kind == tokens.OAuth && k.app == nil {
		return "", &remediable{"only the app can ask HubSpot which portal an OAuth token belongs to", "set HUBSPOT_CLIENT_ID and HUBSPOT_CLIENT_SECRET to the values that the proxy has"}
	}
	get := k.source.Credential
	if p.State == tokens.Ended {
		get = k.source.TryAgain
	}
	credential, err := get(ctx, p.ID)
	if err != nil {
		return "", err
	}
	if p.Kind != tokens.OAuth {
		return k.account(ctx, credential, "store it with portal set "+p.ID)
	}
	portal, err := k.app.Introspect(ctx, credential.Secret)
	if answer, ok := errors.AsType[*hubspot.Error](err); ok && answer.Status == http.StatusOK {
		// HubSpot rejects the token, although the token has not expired. In this case the
		// proxy would renew the token, so the check does too.
		credential, err = k.source.Renew(ctx, credential, false)
		if errors.Is(err, tokens.ErrNoOther) {
			err = &remediable{"HubSpot does not accept the access token, although it was renewed just now", "try again in a minute"}
		}
		if err != nil {
			return "", err
		}
		portal, err = k.app.Introspect(ctx, credential.Secret)
	}
	return portal, err
}

// checkEnvironment asks HubSpot which portal the static credential of the environment belongs to.
// If the environment does not name a portal, any portal is right.
func (k *checker) checkEnvironment(ctx context.Context) finding {
	kind, value := credential(k.settings)
	variable := "HUBSPOT_ACCESS_TOKEN"
	if kind == tokens.APIKey {
		variable = "HUBSPOT_API_KEY"
	}
	f := finding{ID: k.settings.Default(), Kind: kind}
	var err error
	f.HubSpotPortal, err = k.account(ctx, tokens.Static(f.ID, kind, value), "set "+variable+" to it")
	switch {
	case err != nil:
		f.Problem, f.Remedy = err.Error(), remedyFor(tokens.Portal{}, err)
	case k.settings.HubSpotPortalID != "" && f.HubSpotPortal != f.ID:
		f.Problem = "wrong, HubSpot says that the credential belongs to portal " + f.HubSpotPortal
		f.Remedy = fmt.Sprintf("set %s to a credential of portal %s, or HUBSPOT_PORTAL_ID to %s", variable, f.ID, f.HubSpotPortal)
	default:
		f.OK = true
		if kind == tokens.AccessToken {
			f.Scopes, _ = hubspot.Scopes(ctx, k.client, k.settings.UpstreamURL, value) // as in scopes, an error means not known
		}
	}
	return f
}

// account asks HubSpot for the account of a static credential. anew is what to do with a new
// credential, if HubSpot does not accept this one.
func (k *checker) account(ctx context.Context, credential *tokens.Credential, anew string) (string, error) {
	portal, err := hubspot.Account(ctx, k.client, k.settings.UpstreamURL, credential.Secret, credential.Kind == tokens.APIKey)
	failure, failed := errors.AsType[*hubspot.AccountError](err)
	switch {
	case !failed:
		return portal, err
	case failure.Status == http.StatusUnauthorized:
		return "", &remediable{failure.Error(), "make a new credential in HubSpot, and " + anew}
	case failure.Status == 0:
		return "", &remediable{failure.Error(), "check UPSTREAM_URL, and whether this machine can reach it"}
	case failure.Status == http.StatusOK:
		return "", &remediable{failure.Error(), "check UPSTREAM_URL"}
	default:
		return "", &remediable{failure.Error(), "try again later"}
	}
}

// remedyFor returns what to do about an error, or "" if that is not known.
func remedyFor(p tokens.Portal, err error) string {
	if own, ok := errors.AsType[*remediable](err); ok {
		return own.remedy
	}
	if ended, ok := errors.AsType[*tokens.EndedError](err); ok {
		return tokens.Portal{ID: ended.Portal, State: tokens.Ended}.Remedy()
	}
	endpoint, isEndpoint := errors.AsType[*hubspot.Error](err)
	switch {
	case errors.Is(err, tokens.ErrNotConnected):
		return tokens.Portal{State: tokens.Removed}.Remedy()
	case isEndpoint && endpoint.Kind == hubspot.AppRefused:
		return "check HUBSPOT_CLIENT_ID and HUBSPOT_CLIENT_SECRET"
	case isEndpoint:
		return "try again in a minute"
	case p.State == tokens.Unusable:
		return p.Remedy()
	}
	return ""
}
