package tokens

import (
	"fmt"
	"time"

	"hubspot-auth-proxy/tokens/hubspot"
	"hubspot-auth-proxy/tokens/store"
)

// An Event is a renewal of a portal's grant, or its end.
type Event = store.Event

// A Portal is a portal's record without its secrets, for operators.
type Portal struct {
	ID   string `json:"id"`
	Name string `json:"name,omitempty"`
	Kind Kind   `json:"kind,omitempty"`

	State State `json:"state"`

	// Problem is the reason for which the portal cannot be used. Empty means that it can.
	Problem string `json:"problem,omitempty"`

	// Newer means that a newer version of the program has written the record.
	Newer bool `json:"newer,omitempty"`

	// Expires is the time at which an OAuth access token expires, and Renewed the time of
	// the last renewal. Zero means that there is none.
	Expires time.Time `json:"expires,omitzero"`
	Renewed time.Time `json:"renewed,omitzero"`

	// App is the client id of the HubSpot app that has the grant. Empty means not known
	// yet.
	App string `json:"client_id,omitempty"`

	// Scopes are the scopes of the grant, separated by spaces. Empty means that they are
	// not known yet, or that the credential is static.
	Scopes string `json:"scopes,omitempty"`

	// EndedAt is the time at which HubSpot first refused the grant. NextTry is the time
	// from which the next call tries the grant again. Zero means that the grant has not
	// ended, is not tried again, or that the time is not known.
	EndedAt time.Time `json:"ended_at,omitzero"`
	NextTry time.Time `json:"next_try,omitzero"`

	// RejectedAt is the time since which HubSpot answers 401 to calls with the static
	// credential. Zero means that HubSpot accepts it.
	RejectedAt time.Time `json:"rejected_at,omitzero"`

	// Set is the time at which the credential was set, seeded or connected. Zero means
	// not known. Events are the last renewals since then, the oldest first.
	Set    time.Time `json:"-"`
	Events []Event   `json:"-"`

	// Failure is the reason for which the token, which is due to be renewed, was not
	// renewed. Empty means that there was no failure. This process does not try again
	// before Retry.
	Failure string    `json:"-"`
	Retry   time.Time `json:"-"`

	// Unsaved means that the portal was renewed and that Redis has not stored that yet:
	// only this process has the token.
	Unsaved bool `json:"-"`
}

// Healthy reports whether the portal needs no attention of an operator. A portal whose token
// has expired is healthy, because the next call renews the token.
func (p Portal) Healthy() bool { return p.State == Active && p.Failure == "" && !p.Unsaved }

// Remedy says what an operator has to do if the portal cannot be used. It returns "" if the
// portal can be used. Errors, commands and the status page show this text.
func (p Portal) Remedy() string {
	switch p.State {
	case Ended:
		return fmt.Sprintf("connect it again with portal link --portal %s, or give a new grant to portal set %s refresh_token, or to the setting or seed file that has the portal", p.ID, p.ID)
	case Unusable:
		if p.Newer {
			return "run the newer version of this program, or replace the record with portal set " + p.ID + " and --force"
		}
		return "if a key is missing from ENCRYPTION_KEYS, add it after the first key; otherwise store the credential anew with portal set " + p.ID
	case Rejected:
		where := "to portal set " + p.ID + ", or to the setting or seed file that has the portal"
		if !hubspot.ValidPortal(p.ID) { // the environment's credential, without a portal id
			where = "to the setting HUBSPOT_ACCESS_TOKEN or HUBSPOT_API_KEY"
		}
		return "make a new access token or key in HubSpot, and give it " + where + "; the rejected one stays in use until then"
	case Removed:
		return "portal set or portal link connects it"
	}
	return ""
}

// reject sets the state Rejected, unless since is zero.
func (p *Portal) reject(since time.Time) {
	if !since.IsZero() {
		p.State, p.RejectedAt = Rejected, since
		p.Problem = "since " + since.UTC().Format(time.RFC3339) + ", HubSpot has answered 401 to this portal's calls"
	}
}

// stateOf returns the state of a portal from its record, or from the error of reading it.
func stateOf(r store.Record, err error) State {
	switch {
	case err != nil:
		return Unusable
	case r.State == Active && r.Kind != OAuth && !r.RejectedAt.IsZero():
		return Rejected
	default:
		return r.State
	}
}
