package tokens

import (
	"fmt"
	"time"

	"go.uber.org/zap"

	"hubspot-auth-proxy/tokens/hubspot"
	"hubspot-auth-proxy/tokens/store"
)

// triesAfter are the times from HubSpot's first refusal of a grant to the next tries. After
// these, the grant is tried every triesEvery until triesEnd.
var triesAfter = [...]time.Duration{time.Minute, 10 * time.Minute, time.Hour}

const (
	triesEvery = 6 * time.Hour
	triesEnd   = 7 * 24 * time.Hour

	// unansweredPause is the time from a try that HubSpot neither accepted nor
	// refused to the next one.
	unansweredPause = time.Minute
)

// nextTry returns the first time of the schedule after the last try, or the zero time if the
// schedule is over. ended is the time of HubSpot's first refusal.
func nextTry(ended, last time.Time) time.Time {
	at := ended
	for _, after := range triesAfter {
		if at = ended.Add(after); at.After(last) {
			return at
		}
	}
	at = at.Add((last.Sub(at)/triesEvery + 1) * triesEvery)
	if at.Sub(ended) > triesEnd {
		return time.Time{}
	}
	return at
}

// tryAt returns the time from which the app may try an ended grant, and whether it may try the
// grant at all. The zero time means at once: the grant was not tried with this client id and
// secret yet.
func tryAt(r store.Record, app *hubspot.App) (at time.Time, may bool) {
	if r.State != Ended || app == nil || isForeign(r, app) {
		return time.Time{}, false
	}
	switch fingerprint := app.Fingerprint(); {
	case r.TriedWith.Refused(fingerprint):
		at = nextTry(r.EndedAt, r.NotedAt)
		return at, !at.IsZero()
	case r.TriedWith.Unanswered(fingerprint):
		return r.NotedAt.Add(unansweredPause), true
	}
	return time.Time{}, true
}

// isForeign reports whether the grant is known to belong to another app.
func isForeign(r store.Record, app *hubspot.App) bool {
	return app != nil && r.Kind == OAuth && r.State != Removed && r.App != "" && r.App != app.ClientID
}

// isDue reports whether an ended grant is to be tried now. While Redis does not answer, no
// grant is tried, because every replica would try it.
func (s *Source) isDue(e *entry, h *held) bool {
	at, may := tryAt(h.Record, s.options.App)
	return may && !s.now().Before(at) && s.store.Answers() && s.paused(e) == nil
}

// answer returns the portal's credential, or an error if there is none. The error is errExpired
// if a renewal, or a try of the ended grant, may result in a credential.
func (s *Source) answer(e *entry, h *held) (*Credential, error) {
	switch {
	case h.usable(s.now()):
		return h.credential, nil
	case h.State == Removed:
		return nil, ErrNotConnected
	case h.State == Ended && !isForeign(h.Record, s.options.App) && !s.isDue(e, h):
		return nil, s.ended(e.id, h.Record)
	default:
		return nil, errExpired
	}
}

// needsNoRenewal reports whether old needs no renewal because of h, the current record: h has
// another secret that can be used, or h has no credential and no renewal is to be tried.
func (s *Source) needsNoRenewal(e *entry, h, old *held) bool {
	switch h.State {
	case Active:
		return h.usable(s.now()) && !h.Secret.Equal(old.Secret)
	case Ended:
		return !s.isDue(e, h)
	default:
		return true
	}
}

// ended returns the error for a portal whose grant HubSpot refuses.
func (s *Source) ended(portal string, r store.Record) *EndedError {
	err := &EndedError{Portal: portal, Code: r.EndedCode, Since: r.EndedAt}
	if at, may := tryAt(r, s.options.App); may {
		err.Next = at
		if now := s.now(); at.Before(now) {
			err.Next = now
		}
	}
	return err
}

// foreign returns an error if the grant belongs to another app, and begins a pause, so that not
// every request reads the record again.
func (s *Source) foreign(e *entry, h *held) error {
	mismatch := s.mismatch(e.id, h.Record)
	if mismatch == nil {
		return nil
	}
	s.throttled.Error("a portal's grant was given to another HubSpot app than HUBSPOT_CLIENT_ID names, so it is not used",
		zap.String("portal", e.id), zap.String("grant_client_id", mismatch.Grant), zap.String("configured_client_id", mismatch.Configured))
	return s.postpone(e, 0, mismatch)
}

// mismatch returns an error if the record's grant belongs to another app, and otherwise nil.
func (s *Source) mismatch(portal string, r store.Record) *AppMismatchError {
	if !isForeign(r, s.options.App) {
		return nil
	}
	return &AppMismatchError{Portal: portal, Grant: r.App, Configured: s.options.App.ClientID}
}

// An AppMismatchError means that the portal's grant was given to another HubSpot app than the
// settings name. The grant itself is valid.
type AppMismatchError struct {
	Portal string

	// Grant is the client id of the app that has the grant, and Configured the client
	// id in the settings.
	Grant, Configured string
}

// Error names both client ids.
func (e *AppMismatchError) Error() string {
	return fmt.Sprintf("the grant was given to the HubSpot app with client id %s, and HUBSPOT_CLIENT_ID is %s: set HUBSPOT_CLIENT_ID and HUBSPOT_CLIENT_SECRET to those of that app, or connect portal %s with this one",
		e.Grant, e.Configured, e.Portal)
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
