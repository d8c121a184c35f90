package tokens

import (
	"net/http"
	"sync/atomic"
	"time"

	"hubspot-auth-proxy/tokens/secret"
	"hubspot-auth-proxy/tokens/store"
)

// Kind is the kind of a portal's credential.
type Kind = store.Kind

// The kinds of credentials.
const (
	OAuth       = store.OAuth
	AccessToken = store.AccessToken
	APIKey      = store.APIKey
)

// State is the state of a portal.
type State = store.State

// The states of a portal.
const (
	Active   = store.Active
	Ended    = store.Ended
	Removed  = store.Removed
	Unusable = store.Unusable
	Rejected = store.Rejected
)

// A GrantChange reports that a portal's grant has ended or works again. NOTIFY_URL gets it as
// JSON.
type GrantChange struct {
	Portal string `json:"portal"`

	// State is Ended, or Active if the portal works again.
	State State `json:"state"`

	// Code is HubSpot's code for a grant that has ended, such as BAD_REFRESH_TOKEN.
	// Empty if the portal works again.
	Code string `json:"code,omitempty"`

	// At is the time of the change, in UTC with milliseconds.
	At time.Time `json:"at"`
}

// A Credential is the credential with which a portal's requests are sent. It does not change:
// a renewal makes another Credential.
type Credential struct {
	Portal string
	Kind   Kind

	// Secret is the access token or the API key.
	Secret secret.Text

	// Expiry is the time at which the credential expires. Zero means never.
	Expiry time.Time

	// Generation numbers the credentials of a portal. A newer credential has a greater
	// Generation. 0 means that the credential has no record in Redis.
	Generation int64

	renewedAt  time.Time
	renewedFor store.Cause
	learned    *learned
}

// learned is what HubSpot's answers have shown about a credential. The cache keeps it for as
// long as the secret stays the same.
type learned struct {
	served  atomic.Bool // HubSpot has accepted the credential
	useless atomic.Bool // HubSpot has rejected the credential, and the grant has ended

	rejection *rejection // nil for the kind OAuth
}

// Static returns a credential that has no record in Redis and does not expire.
func Static(portal string, kind Kind, value secret.Text) *Credential {
	return &Credential{Portal: portal, Kind: kind, Secret: value, learned: &learned{rejection: &rejection{now: time.Now}}}
}

// Answered records the status with which HubSpot has answered a call that had the credential.
// This decides whether a later 401 is a reason to renew, and whether a static credential is
// reported as rejected.
func (c *Credential) Answered(status int) {
	l := c.learned
	if l == nil {
		return
	}
	if status != http.StatusUnauthorized && !l.served.Load() {
		l.served.Store(true)
	}
	if l.rejection != nil {
		l.rejection.answered(status)
	}
}
