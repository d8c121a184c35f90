package tokens

import (
	"errors"
	"fmt"
	"time"

	"hubspot-auth-proxy/tokens/store"
)

// An Event is what happened to a portal's grant.
type Event = store.Event

// A Portal is what operators may know of a portal's record: all but its
// secrets.
type Portal struct {
	ID   string `json:"id"`
	Name string `json:"name,omitempty"`
	Kind Kind   `json:"kind,omitempty"`

	State State `json:"state"`

	// Problem says why the portal cannot be used, if it cannot.
	Problem string `json:"problem,omitempty"`

	// Newer reports that a newer version of the program has written the record.
	Newer bool `json:"newer,omitempty"`

	// Expires is the end of an OAuth access token's life, and Renewed when it
	// was last renewed. Zero: there is none.
	Expires time.Time `json:"expires,omitzero"`
	Renewed time.Time `json:"renewed,omitzero"`

	// App is the client id of the HubSpot app that has the grant. Empty: not
	// known yet.
	App string `json:"client_id,omitempty"`

	// Scopes are those of the grant, with spaces in between. Empty: not known yet,
	// or the credential is static.
	Scopes string `json:"scopes,omitempty"`

	// EndedAt is when HubSpot refused the grant, and NextTry when the next call
	// tries it again. Zero: not known, or not.
	EndedAt time.Time `json:"ended_at,omitzero"`
	NextTry time.Time `json:"next_try,omitzero"`

	// RejectedAt is since when HubSpot answers 401 to calls with the static
	// credential. Zero: it does not.
	RejectedAt time.Time `json:"rejected_at,omitzero"`

	// Set is when the credential was set, seeded or connected. The zero time means
	// that this is not known. Events are the last renewals since, the oldest first.
	Set    time.Time `json:"-"`
	Events []Event   `json:"-"`

	// Failure says why the portal's token, which is due to be renewed, could
	// not be. Empty: it could, or is not due. Until Retry, this process does
	// not try again.
	Failure string    `json:"-"`
	Retry   time.Time `json:"-"`

	// Unsaved reports that the portal was renewed, and that Redis could not
	// store that yet: only this process has its token.
	Unsaved bool `json:"-"`
}

// Well reports whether there is nothing that an operator should do or know.
// That a token has expired is nothing: the next call renews it.
func (p Portal) Well() bool { return p.State == Active && p.Failure == "" && !p.Unsaved }

// Remedy says what to do about a portal that cannot be used; nothing if it can.
// Refusals, commands and the status page use these words.
func (p Portal) Remedy() string {
	switch p.State {
	case Ended:
		return fmt.Sprintf("connect it again with portal link --portal %s, or give a new grant to portal set %s refresh_token", p.ID, p.ID)
	case Unusable:
		if p.Newer {
			return "run the newer version of this program, or replace the record with portal set " + p.ID + " and --force"
		}
		return "give ENCRYPTION_KEYS as the proxies have them, or store the credential anew with portal set " + p.ID
	case Rejected:
		return "make a new access token or key in HubSpot, and give it to portal set " + p.ID + "; it is used on meanwhile"
	case Removed:
		return "portal set or portal link connects it again"
	}
	return ""
}

// reject makes the portal one whose static credential HubSpot rejects, unless since
// is zero.
func (p *Portal) reject(since time.Time) {
	if !since.IsZero() {
		p.State, p.RejectedAt = Rejected, since
		p.Problem = "HubSpot answers 401 to its calls since " + since.UTC().Format(time.RFC3339)
	}
}

// stateOf returns the state of a portal by its record, or by what is wrong with it.
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

// portalOf makes a Portal of a record, or of what is wrong with it.
func portalOf(id string, r store.Record, err error) Portal {
	if err != nil {
		return Portal{ID: id, Name: r.Name, Kind: r.Kind, State: Unusable, Newer: errors.As(err, new(*store.NewerError)), Problem: err.Error()}
	}
	p := Portal{ID: id, Name: r.Name, Kind: r.Kind, State: r.State, Problem: r.EndedCode, Expires: r.ExpiresAt, Renewed: r.RenewedAt, App: r.App, Scopes: r.Scopes,
		Set: r.SetAt, Events: r.Events()}
	switch stateOf(r, nil) {
	case Ended:
		p.EndedAt = r.EndedAt
	case Rejected:
		p.reject(r.RejectedAt)
	}
	return p
}

// portalOf makes a Portal of a record, and of what the source's app means for it.
func (s *Source) portalOf(id string, r store.Record, err error) Portal {
	p := portalOf(id, r, err)
	if err != nil {
		return p
	}
	if r.State == Ended {
		p.NextTry = s.ended(id, &held{Record: r}).Next
	}
	if mismatch := s.mismatch(id, r); mismatch != nil {
		p.Failure = mismatch.Error()
	}
	return p
}
