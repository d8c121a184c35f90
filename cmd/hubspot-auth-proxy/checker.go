package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspot"
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

	// Scopes are those that HubSpot named when it last gave a token. Empty: not
	// known, or the credential is static.
	Scopes string `json:"scopes,omitempty"`

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
		f.Problem = "wrong, HubSpot says that the credential is of portal " + f.HubSpotPortal
		f.Remedy = fmt.Sprintf("give this portal its own with portal set %s, and the other to portal set %s", id, f.HubSpotPortal)
	default:
		f.OK = true
		if now, err := k.source.Show(ctx, id); err == nil { // it may have been renewed
			f.Scopes = now.Scopes
		}
	}
	return f
}

// whose returns the portal that HubSpot says the credential is of.
func (k *checker) whose(ctx context.Context, p tokens.Portal) (string, error) {
	if p.Kind == tokens.OAuth && k.app == nil {
		return "", &trouble{"HubSpot tells whose an OAuth token is to its app only", "set HUBSPOT_CLIENT_ID and HUBSPOT_CLIENT_SECRET as the proxy has them"}
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
func (k *checker) account(ctx context.Context, credential *tokens.Credential) (string, error) {
	portal, err := hubspot.Account(ctx, k.client, k.upstream, credential.Secret, credential.Kind == tokens.APIKey)
	var failure *hubspot.AccountError
	switch {
	case !errors.As(err, &failure):
		return portal, err
	case failure.Status == http.StatusUnauthorized:
		return "", &trouble{failure.Error(), "make a new one in HubSpot, and give it to portal set " + credential.Portal}
	case failure.Status == 0:
		return "", &trouble{failure.Error(), "check UPSTREAM_URL and whether it can be reached from here"}
	case failure.Status == http.StatusOK:
		return "", &trouble{failure.Error(), "check UPSTREAM_URL"}
	default:
		return "", &trouble{failure.Error(), "try again later"}
	}
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
		return tokens.Portal{ID: ended.Portal, State: tokens.Ended}.Remedy()
	case errors.Is(err, tokens.ErrNotConnected):
		return tokens.Portal{State: tokens.Removed}.Remedy()
	case errors.As(err, &endpoint) && endpoint.Kind == hubspot.AppRefused:
		return "check HUBSPOT_CLIENT_ID and HUBSPOT_CLIENT_SECRET"
	case errors.As(err, &endpoint):
		return "try again in a minute"
	case p.State == tokens.Unusable:
		return p.Remedy()
	}
	return ""
}
