package tokens

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"time"

	"go.uber.org/zap"

	"hubspot-auth-proxy/tokens/hubspot"
	"hubspot-auth-proxy/tokens/store"
)

// steadyAfter is the time after a failure of Redis for which HubSpot's refusal of a grant is not
// stored, because another replica may have a newer refresh token. It is longer than the pause of
// [Source.reconcilePending] between two tries.
const steadyAfter = 10 * time.Second

// call calls the token endpoint and stores the new access token. withoutRedis means that Redis does
// not answer. The call cannot be canceled by a request, because HubSpot may have replaced the
// refresh token and the answer must not be lost.
func (s *Source) call(e *entry, h *held, why store.Cause, withoutRedis bool) (*Credential, error) {
	if s.options.App == nil {
		return nil, unavailable(e.id, maxPause, errNoApp)
	}
	if h.Kind != OAuth {
		return s.answer(e, h)
	}
	if err := s.paused(e); err != nil { // a pause may have begun while the lock was acquired
		return nil, err
	}
	if err := s.foreign(e, h); err != nil {
		return nil, err
	}
	fingerprint := s.options.App.Fingerprint()
	began := s.now()
	called := time.Now()
	token, err := s.options.App.Refresh(s.service, h.Refresh)
	refusal, _ := errors.AsType[*hubspot.Error](err) // Refresh returns no other errors
	s.metrics.tokenCall(called, refusal)
	if refusal != nil {
		return s.failed(e, h, why, withoutRedis, fingerprint, refusal)
	}
	if token.Portal != "" && token.Portal != e.id {
		err := fmt.Errorf("the refresh token that is stored for portal %s belongs to portal %s: connect portal %s, or correct the id in the setting or seed file that has the refresh token", e.id, token.Portal, e.id)
		s.log.Error("the refresh token that is stored for a portal belongs to another portal", zap.String("portal", e.id), zap.Error(err))
		return nil, s.postpone(e, 0, err)
	}
	e.tokens++
	e.pause.end()
	s.app.endIfOver(s.now()) // a pause that lasts began during this call
	if h.State == Ended {
		s.log.Info("HubSpot accepts a portal's grant again", zap.String("portal", e.id), zap.Time("refused_since", h.EndedAt))
	}
	r := renewed(h.Record, token, why, began, s.now())
	if withoutRedis {
		r.Generation = max(r.Generation, s.now().UnixMicro()) // otherwise Redis sets it by its own clock
	}
	return s.keep(e, h.Record, r, withoutRedis)
}

// renewed returns the record after HubSpot has accepted the grant and issued the token. Its times are
// truncated to milliseconds, so that they are the same when they are read from Redis.
func renewed(r store.Record, token hubspot.Token, why store.Cause, began, now time.Time) store.Record {
	r.State, r.EndedCode = Active, ""
	r.EndedAt, r.NotedAt, r.TriedWith = time.Time{}, time.Time{}, ""
	r.App, r.Scopes = token.App, cmp.Or(token.Scopes, r.Scopes)
	r.Secret = token.Access
	if !token.Refresh.IsZero() {
		r.Refresh = token.Refresh
	}
	r.ExpiresAt = began.Add(token.ExpiresIn).Truncate(time.Millisecond)
	r.RenewedAt, r.RenewedFor = now.Truncate(time.Millisecond), why
	r.Generation++
	return r.WithEvent(r.RenewedAt, string(why))
}

// keep holds and stores the renewed record r. from is the record before the renewal. If Redis has
// another record than from, keep reconciles both. If withoutRedis is true, the request has already
// waited for Redis once. Then keep does not wait again: r is stored later, in the background.
func (s *Source) keep(e *entry, from, r store.Record, withoutRedis bool) (*Credential, error) {
	next := s.held(e.id, r)
	e.holdRenewed(next, from)
	s.directory.update(e.id, r, nil)
	s.log.Info("renewed a portal's access token", zap.String("portal", e.id),
		zap.String("for", string(r.RenewedFor)), zap.Time("expires", r.ExpiresAt))
	if withoutRedis {
		s.unsaved(e)
		return next.credential, nil
	}
	stored, err := s.store.Write(s.service, e.id, store.Change{Record: r, Numbering: store.Renew, Replaces: &from})
	if err == nil {
		s.merge(e, &stored)
		s.stored(e.id, from, stored)
	} else if errors.Is(err, store.ErrConflict) {
		err = s.sync(s.service, e)
	}
	if err != nil {
		s.throttled.Error("a renewed portal could not be stored yet; it is kept in memory", zap.String("portal", e.id), zap.Error(err))
		s.unsaved(e)
		return next.credential, nil
	}
	credential, err := s.answer(e, e.current.Load())
	if err == errExpired {
		err = s.postpone(e, 0, errors.New("the access token had expired when it arrived"))
	}
	return credential, err
}

// unsaved marks a portal whose credential only this process has, and makes it be stored.
func (s *Source) unsaved(e *entry) {
	e.unsaved.Store(true)
	s.pending.add(e)
}

// failed handles an error of the token endpoint.
func (s *Source) failed(e *entry, h *held, why store.Cause, withoutRedis bool, fingerprint string, refusal *hubspot.Error) (*Credential, error) {
	if refusal.Kind == hubspot.GrantEnded && !withoutRedis {
		return s.grantEnded(e, h, why, fingerprint, refusal)
	}
	err := s.notRenewed(e, refusal)
	if h.State != Ended {
		return nil, err
	}
	// The try is stored, so that the other replicas do not try the grant too.
	_ = s.storeTry(e, h, fingerprint, "")
	ended := s.ended(e.id, h.Record)
	ended.Err = err
	return nil, ended
}

// grantEnded stores that HubSpot refuses the portal's grant, unless the portal was connected
// again or another replica has renewed the grant.
func (s *Source) grantEnded(e *entry, h *held, why store.Cause, fingerprint string, refusal *hubspot.Error) (*Credential, error) {
	s.settle(e, h)
	var err error
	for range 3 { // the record may be changed at the same time
		var latest *held
		latest, err = s.read(s.service, e)
		switch {
		case errors.Is(err, ErrNotConnected):
			return nil, err
		case err != nil:
			return nil, s.postpone(e, 0, err)
		case latest.Newer(h.Record) && s.needsNoRenewal(e, latest, h):
			return s.answer(e, latest)
		case !latest.Refresh.Equal(h.Refresh):
			return s.call(e, latest, why, false)
		case !s.store.Steady(s.now().Add(-steadyAfter)):
			// Another replica may have a newer refresh token that it could not
			// store yet.
			return nil, s.notRenewed(e, refusal)
		}
		if err = s.storeTry(e, latest, fingerprint, refusal.Code); err == nil {
			return nil, s.ended(e.id, e.current.Load().Record)
		}
	}
	// Without a pause, each request would call the token endpoint, because the refusal
	// cannot be stored.
	return nil, s.postpone(e, 0, fmt.Errorf("HubSpot refuses the grant (%s), and the refusal could not be stored: %w", refusal.Code, err))
}

// settle waits until the end of Options.Settle, or until the portal has another refresh token than h.
func (s *Source) settle(e *entry, h *held) {
	for time.Now().Before(s.settled) && s.sleep(jitter(100*time.Millisecond, 300*time.Millisecond)) == nil {
		if latest, err := s.read(s.service, e); err != nil || !latest.Refresh.Equal(h.Refresh) {
			return
		}
	}
}

// storeTry stores the result of a try of the grant: HubSpot has refused the grant with the code,
// or, if code is empty, HubSpot has neither accepted nor refused it.
func (s *Source) storeTry(e *entry, h *held, fingerprint, code string) error {
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
	_, err := s.store.Write(s.service, e.id, store.Change{Record: r, Numbering: store.Keep, Replaces: &h.Record})
	if err != nil {
		return err
	}
	s.merge(e, &r)
	s.stored(e.id, h.Record, r)
	if refused {
		ended := s.ended(e.id, r)
		s.log.Warn("HubSpot refuses a portal's grant", zap.String("portal", e.id), zap.String("code", code),
			zap.Time("since", ended.Since), zap.Time("next_try", ended.Next), zap.String("client_id", s.options.App.ClientID))
	}
	return nil
}

// notRenewed logs a failed call of the token endpoint, and begins a pause. It returns the error for
// the portal's requests.
func (s *Source) notRenewed(e *entry, refusal *hubspot.Error) error {
	if refusal.Kind == hubspot.AppRefused {
		s.throttled.Error("HubSpot refuses the app: check HUBSPOT_CLIENT_ID and HUBSPOT_CLIENT_SECRET", zap.Error(refusal))
	} else {
		s.throttled.Warn("a portal's access token could not be renewed", zap.String("portal", e.id), zap.Error(refusal))
	}
	if refusal.Kind == hubspot.AppRefused || refusal.Status == http.StatusTooManyRequests {
		return s.app.extend(e.id, s.now(), refusal.RetryAfter, refusal)
	}
	return s.postpone(e, refusal.RetryAfter, refusal)
}
