package tokens

import (
	"sync/atomic"
	"time"

	"hubspot-auth-proxy/tokens/secret"
)

// Kind is how a portal's calls are authenticated.
type Kind string

const (
	// OAuth is an access token that expires and is renewed.
	OAuth Kind = "oauth"

	// AccessToken is a static one: a private app's or a service key.
	AccessToken Kind = "access_token"

	// APIKey goes into the query, as hapikey.
	APIKey Kind = "api_key"
)

// A Credential is what one portal's requests are sent with. It does not
// change: a renewed one is another value. Its methods are safe for concurrent
// use.
type Credential struct {
	Portal string
	Kind   Kind

	// Secret is the access token or the API key.
	Secret secret.Text

	// Expiry is the end of its life. Zero: it has none.
	Expiry time.Time

	renewedAt  time.Time
	renewedFor cause
	served     atomic.Bool // HubSpot has accepted it, in this process
	dead       atomic.Bool // HubSpot has rejected it, and there will be no other
}

// Static returns a credential that is the process's own: it has no record in
// Redis, no expiry and no replacement.
func Static(portal string, kind Kind, value secret.Text) *Credential {
	return &Credential{Portal: portal, Kind: kind, Secret: value}
}

// MarkServed notes that HubSpot has accepted the credential: should it be
// rejected later, that is news, and worth a renewal.
func (c *Credential) MarkServed() {
	if !c.served.Load() {
		c.served.Store(true)
	}
}

// cause is what a renewal was done for.
type cause string

const (
	expiry    cause = "expiry"    // its time had come
	rejection cause = "rejection" // HubSpot answered 401
)
