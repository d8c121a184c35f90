package tokens

import (
	"time"

	"hubspot-auth-proxy/tokens/store"
)

// A GrantChange says what has become of a portal's grant. As JSON, it is what
// NOTIFY_URL gets.
type GrantChange struct {
	Portal string `json:"portal"`

	// State is Ended, or Active if the portal works again.
	State State `json:"state"`

	// Code is HubSpot's for a grant that has ended, such as BAD_REFRESH_TOKEN.
	Code string `json:"code,omitempty"`

	At time.Time `json:"at"`
}

// stored reports a grant's change, if the record that this process has just stored
// means one against the former record. Each change is stored by one process.
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
