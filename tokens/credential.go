package tokens

import (
	"net/http"
	"sync/atomic"
	"time"

	"hubspot-auth-proxy/tokens/secret"
	"hubspot-auth-proxy/tokens/store"
)

// Kind is how a portal's calls are authenticated.
type Kind = store.Kind

// The kinds of a credential.
const (
	OAuth       = store.OAuth
	AccessToken = store.AccessToken
	APIKey      = store.APIKey
)

// State is whether a portal can be used.
type State = store.State

// The states of a portal.
const (
	Active   = store.Active
	Ended    = store.Ended
	Removed  = store.Removed
	Unusable = store.Unusable
	Rejected = store.Rejected
)

// A Credential is what one portal's requests are sent with. It does not change:
// a renewed one is another value.
type Credential struct {
	Portal string
	Kind   Kind

	// Secret is the access token or the API key.
	Secret secret.Text

	// Expiry is the end of its life. Zero: it has none.
	Expiry time.Time

	// Generation numbers the credentials of a portal: a greater one came into
	// being later. Zero: it is the process' own.
	Generation int64

	renewedAt  time.Time
	renewedFor store.Cause
	learned    *learned
}

// learned is what a process has learned about a credential since it has it. It
// belongs to the cache, which has one for each secret.
type learned struct {
	served atomic.Bool // HubSpot has accepted it
	dead   atomic.Bool // HubSpot has rejected it, and there will be no other

	judgement *judgement // nil: it is of kind OAuth
}

// Static returns a credential that is the process's own: it has no record in
// Redis, no expiry and no replacement.
func Static(portal string, kind Kind, value secret.Text) *Credential {
	return &Credential{Portal: portal, Kind: kind, Secret: value, learned: &learned{judgement: &judgement{now: time.Now}}}
}

// Answered notes that HubSpot has answered a call that had the credential. One that
// was accepted and is rejected later is worth a renewal, and a static one that is
// rejected again and again is reported.
func (c *Credential) Answered(status int) {
	l := c.learned
	if l == nil {
		return
	}
	if status != http.StatusUnauthorized && !l.served.Load() {
		l.served.Store(true)
	}
	if l.judgement != nil {
		l.judgement.answered(status)
	}
}
