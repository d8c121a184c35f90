package tokens

import (
	"time"

	"hubspot-auth-proxy/tokens/store"
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

// stored calls GrantChanged if the record that this process has just stored changes the state
// of the grant. Only one process stores each change, so each change is reported once.
func (s *Source) stored(portal string, former, r store.Record) {
	if s.options.GrantChanged == nil {
		return
	}
	change := GrantChange{Portal: portal, State: r.State}
	switch {
	case former.State == Active && r.State == Ended:
		change.Code, change.At = r.EndedCode, r.EndedAt
	case former.State == Ended && r.State == Active:
		change.At = s.now()
	default:
		return
	}
	change.At = change.At.UTC().Truncate(time.Millisecond)
	s.options.GrantChanged(change)
}
