package tokens

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"hubspot-auth-proxy/tokens/hubspot"
	"hubspot-auth-proxy/tokens/store"
)

// triesAfter are the times after HubSpot has refused a grant at which the grant is
// tried again. Later tries come every triesEvery, until triesEnd.
var triesAfter = [...]time.Duration{time.Minute, 10 * time.Minute, time.Hour}

const (
	triesEvery = 6 * time.Hour
	triesEnd   = 7 * 24 * time.Hour

	// unansweredPause is the time from a try that HubSpot neither accepted nor
	// refused to the next one.
	unansweredPause = time.Minute
)

// nextTry returns the first time of the schedule after the last try. Zero means
// that there is none.
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

// tryAt returns when the app may try an ended grant, and whether it may at all. The
// zero time is long ago: the app has another client id or secret than those that
// were tried.
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

// isForeign reports whether the grant is known to be one of another app.
func isForeign(r store.Record, app *hubspot.App) bool {
	return app != nil && r.Kind == OAuth && r.State != Removed && r.App != "" && r.App != app.ClientID
}

// isDue reports whether an ended grant is to be tried now. Without Redis it is not,
// because all replicas would try it.
func (s *Source) isDue(e *entry, h *held) bool {
	at, may := tryAt(h.Record, s.options.App)
	return may && !s.now().Before(at) && s.store.Answers() && s.paused(e) == nil
}

// answer returns the portal's credential, or why there is none: errExpired, if
// renewing it, or trying its grant, may give one.
func (s *Source) answer(e *entry, h *held) (*Credential, error) {
	switch {
	case h.usable(s.now()):
		return h.credential, nil
	case h.State == Removed:
		return nil, ErrNotConnected
	case h.State == Ended && !isForeign(h.Record, s.options.App) && !s.isDue(e, h):
		return nil, s.ended(e.id, h)
	default:
		return nil, errExpired
	}
}

// settles reports whether h makes it needless to renew old: it has another secret
// that can be used, or there is no credential at present, and none to ask for.
func (s *Source) settles(e *entry, h, old *held) bool {
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
func (s *Source) ended(portal string, h *held) *EndedError {
	err := &EndedError{Portal: portal, Code: h.EndedCode, Since: h.EndedAt}
	if at, may := tryAt(h.Record, s.options.App); may {
		err.Next = at
		if now := s.now(); at.Before(now) {
			err.Next = now
		}
	}
	return err
}

// foreign returns an error if the grant is one of another app, and begins a pause,
// so that not each request reads the record again.
func (s *Source) foreign(e *entry, h *held) error {
	mismatch := s.mismatch(e.id, h.Record)
	if mismatch == nil {
		return nil
	}
	s.trouble.Error("a portal's grant was given to another HubSpot app than HUBSPOT_CLIENT_ID names: it is not used",
		zap.String("portal", e.id), zap.String("grant_client_id", mismatch.Grant), zap.String("configured_client_id", mismatch.Configured))
	return s.postpone(e, 0, mismatch)
}

// mismatch returns an error if the record's grant is one of another app.
func (s *Source) mismatch(portal string, r store.Record) *AppMismatchError {
	if !isForeign(r, s.options.App) {
		return nil
	}
	return &AppMismatchError{Portal: portal, Grant: r.App, Configured: s.options.App.ClientID}
}

// TryAgain tries the portal's grant if HubSpot has refused it, at once and by one
// call of the token endpoint, and returns its credential. The errors are those of
// [Source.Credential].
func (s *Source) TryAgain(ctx context.Context, portal string) (*Credential, error) {
	return s.wait(ctx, portal, func(ctx context.Context) (*Credential, error) {
		e := s.entry(portal)
		old, err := s.read(ctx, e)
		if err != nil {
			return nil, s.noCredential(e, err)
		}
		if old.State != Ended {
			return s.obtain(ctx, portal)
		}
		tried := func(h *held) bool { return h.Newer(old.Record) }
		release, err := s.lease(ctx, e, false, tried)
		if err != nil {
			return nil, err
		}
		defer release()
		h, err := s.read(ctx, e)
		if err != nil {
			return nil, s.noCredential(e, err)
		}
		if tried(h) {
			return s.answer(e, h)
		}
		return s.call(e, h, store.Expiry, false)
	})
}

// grantEnded marks the portal's grant as ended, or notes that it still is, unless
// somebody has connected the portal again, or another replica has renewed it.
func (s *Source) grantEnded(e *entry, h *held, why store.Cause, fingerprint string, refusal *hubspot.Error) (*Credential, error) {
	var err error
	for range 3 { // it may be changed at the same moment
		var latest *held
		latest, err = s.read(s.life, e)
		switch {
		case errors.Is(err, ErrNotConnected):
			return nil, err
		case err != nil:
			return nil, s.postpone(e, 0, err)
		case latest.Newer(h.Record) && s.settles(e, latest, h):
			return s.answer(e, latest)
		case !latest.Refresh.Equal(h.Refresh):
			return s.call(e, latest, why, false)
		case !s.store.Steady(s.now().Add(-steadyAfter)):
			// Another replica may have a newer refresh token that it could not
			// store yet.
			return s.notRenewed(e, refusal, refusal)
		}
		if err = s.note(e, latest, fingerprint, refusal.Code); err == nil {
			return nil, s.ended(e.id, e.current.Load())
		}
	}
	// Not to ask the token endpoint again and again what cannot be noted.
	return nil, s.postpone(e, 0, err)
}

// note stores that HubSpot refuses the grant with that code, or, without a code,
// that it has neither refused nor accepted the grant.
func (s *Source) note(e *entry, h *held, fingerprint, code string) error {
	r := h.Record
	refused := code != ""
	r.NotedAt = notedAt(r, s.now())
	r.TriedWith = r.TriedWith.With(fingerprint, refused)
	if refused {
		r.EndedCode = code
	}
	if refused && (r.State != Ended || r.EndedAt.IsZero()) {
		r = r.WithEvent(r.NotedAt, "ended:"+code)
		r.State, r.EndedAt = Ended, r.NotedAt
	}
	_, err := s.store.Write(s.life, e.id, store.Change{Record: r, Numbering: store.Keep, Replaces: &h.Record})
	if err != nil {
		return err
	}
	s.take(e, &r)
	s.stored(e.id, h.Record, r)
	if refused {
		ended := s.ended(e.id, &held{Record: r})
		s.log.Warn("HubSpot refuses a portal's grant", zap.String("portal", e.id), zap.String("code", code),
			zap.Time("since", ended.Since), zap.Time("next_try", ended.Next), zap.String("client_id", s.options.App.ClientID))
	}
	return nil
}

// notedAt returns the time at which something is noted about the record, later than
// the last one, whatever clock that was read from.
func notedAt(r store.Record, now time.Time) time.Time {
	now = now.Truncate(time.Millisecond)
	if next := r.NotedAt.Add(time.Millisecond); now.Before(next) {
		return next
	}
	return now
}

// accepted makes the record of one whose grant HubSpot has accepted.
func accepted(r store.Record, token hubspot.Token) store.Record {
	r.State, r.EndedCode = Active, ""
	r.EndedAt, r.NotedAt, r.TriedWith = time.Time{}, time.Time{}, ""
	r.App = token.App
	if token.Scopes != "" {
		r.Scopes = token.Scopes
	}
	r.Secret = token.Access
	if !token.Refresh.IsZero() {
		r.Refresh = token.Refresh
	}
	return r
}

// An AppMismatchError says that the portal's grant was given to another HubSpot app
// than the settings name. Nothing is wrong with the grant.
type AppMismatchError struct {
	Portal string

	// Grant is the client id of the app that has the grant, Configured that of the
	// settings.
	Grant, Configured string
}

// Error names both client ids.
func (e *AppMismatchError) Error() string {
	return fmt.Sprintf("the grant was given to the HubSpot app with client id %s, and HUBSPOT_CLIENT_ID is %s: set HUBSPOT_CLIENT_ID and HUBSPOT_CLIENT_SECRET to those of that app, or connect portal %s with this one",
		e.Grant, e.Configured, e.Portal)
}
