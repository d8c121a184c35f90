package tokens

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"go.uber.org/zap"

	"hubspot-auth-proxy/tokens/hubspot"
	"hubspot-auth-proxy/tokens/store"
)

// notAgain is how long a renewal for a rejection is not repeated if it did not
// help: HubSpot answers 401 for reasons too that no renewal cures, such as an
// endpoint that wants a developer key.
const notAgain = 30 * time.Second

// rereadEvery is how often a static record is read again for rejections.
const rereadEvery = time.Second

// steadyAfter is how long after Redis failed the end of a grant is not believed:
// longer than [Source.reconcilePending] waits between two tries.
const steadyAfter = 10 * time.Second

var errNoApp = errors.New("set HUBSPOT_CLIENT_ID and HUBSPOT_CLIENT_SECRET to renew OAuth tokens")

// obtain reads the portal's record if it is not cached, and renews its
// credential if that has expired.
func (s *Source) obtain(ctx context.Context, id string) (*Credential, error) {
	e := s.entry(id)
	h := e.current.Load()
	if h == nil {
		if err := e.isUnusable(s.now()); err != nil {
			return nil, err
		}
		var err error
		if h, err = s.read(ctx, e); err != nil {
			return nil, s.noCredential(e, err)
		}
	}
	credential, err := s.answer(e, h)
	if err == errExpired {
		return s.renew(ctx, e, h, store.Expiry)
	}
	return credential, err
}

// replace returns the portal's credential if it is another one than the
// rejected one, and renews it if it is time to.
func (s *Source) replace(ctx context.Context, rejected *Credential, expired bool) (*Credential, error) {
	e := s.entry(rejected.Portal)
	h := e.current.Load()
	if h == nil {
		return s.obtain(ctx, e.id)
	}
	if !h.Secret.Equal(rejected.Secret) {
		credential, err := s.answer(e, h)
		if err == errExpired {
			return s.renew(ctx, e, h, store.Expiry)
		}
		return credential, err
	}
	if h.Kind != OAuth {
		return s.reread(ctx, e, h)
	}
	if h.State == Ended {
		h.credential.learned.dead.Store(true) // it was served until now
	} else if !e.mayRenew(rejected, expired, s.now()) {
		return nil, ErrNoOther
	}
	return s.renew(ctx, e, h, store.Rejection)
}

// mayRenew reports whether it is time to renew a rejected credential: not if
// it resulted from a renewal that was to cure the same, a moment ago.
func (e *entry) mayRenew(rejected *Credential, expired bool, now time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	recently := now.Sub(rejected.renewedAt) < notAgain
	if expired {
		return !recently || rejected.renewedFor != store.Rejection || rejected.learned.served.Load()
	}
	if recently || now.Sub(e.attempt) < notAgain {
		return false
	}
	e.attempt = now
	return true
}

// reread looks whether a rejected static credential was replaced.
func (s *Source) reread(ctx context.Context, e *entry, h *held) (*Credential, error) {
	now := s.now()
	e.mu.Lock()
	soon := now.Sub(e.lastRead) < rereadEvery
	if !soon {
		e.lastRead = now
	}
	e.mu.Unlock()
	if soon {
		return nil, ErrNoOther
	}
	s.readFiles(ctx, e.id)
	latest, err := s.read(ctx, e)
	if err != nil {
		return nil, s.noCredential(e, err)
	}
	if !s.settles(e, latest, h) {
		return nil, ErrNoOther
	}
	return s.answer(e, latest)
}

// renew replaces what old has, unless it is not the time to, and counts that.
func (s *Source) renew(ctx context.Context, e *entry, old *held, why store.Cause) (*Credential, error) {
	if err := s.paused(e); err != nil {
		return nil, err
	}
	if err := e.isUnusable(s.now()); err != nil {
		return nil, err
	}
	current := e.current.Load()
	done := current != nil && s.settles(e, current, old) // by the flight before this one
	began, tokens := time.Now(), e.tokens
	credential, err := s.renewOrAdopt(ctx, e, old, why)
	if !done {
		s.metrics.renewal(began, e.tokens > tokens, err)
	}
	return credential, err
}

// renewOrAdopt replaces what old has: by what another replica has stored
// meanwhile, else by what the token endpoint gives. The lock keeps replicas
// from calling it at once; that no newer token is overwritten does not depend
// on it.
func (s *Source) renewOrAdopt(ctx context.Context, e *entry, old *held, why store.Cause) (*Credential, error) {
	latest, alone, err := s.latest(ctx, e, old)
	if err != nil {
		return nil, err
	}
	if err := s.foreign(e, latest); err != nil {
		return nil, err
	}
	if !alone && !s.settles(e, latest, old) {
		early := why == store.Expiry && latest.usable(s.now())
		release, err := s.lease(ctx, e, early, func(h *held) bool { return s.settles(e, h, old) })
		if err != nil {
			return nil, err
		}
		defer release()
		if latest, alone, err = s.latest(ctx, e, old); err != nil {
			return nil, err
		}
	}
	if s.settles(e, latest, old) {
		return s.answer(e, latest)
	}
	return s.call(e, latest, why, alone)
}

// latest reads the portal's record. If Redis does not answer, it returns what
// the process has, old at least, and alone is true.
func (s *Source) latest(ctx context.Context, e *entry, old *held) (h *held, alone bool, err error) {
	h, err = s.read(ctx, e)
	if failure := (*store.Error)(nil); errors.As(err, &failure) {
		if current := e.current.Load(); current != nil {
			old = current // a flight that ended before this one has renewed it
		}
		return old, true, nil
	}
	if err != nil {
		return nil, false, s.noCredential(e, err)
	}
	return h, false, nil
}

// lease takes the portal's lock and keeps it until release is called. It
// returns without the lock if Redis does not give it, and if another replica
// has done what the lock is for before the lock was free. A renewal that is
// early is put off if Redis is read-only, which it is during a failover: the
// refresh token that HubSpot may return could not be stored.
func (s *Source) lease(ctx context.Context, e *entry, early bool, done func(*held) bool) (release func(), err error) {
	release = func() {}
	for {
		lock, err := s.store.Lock(ctx, s.life, e.id)
		switch {
		case err == nil:
			// A Redis that hangs does not keep the one waiting who wants the token.
			return func() { s.work.Go(func() { lock.Release(s.life) }) }, nil
		case early && store.IsReadOnly(err):
			e.aheadAt.Store(s.now().Add(checkSoon).UnixNano())
			return release, errPutOff
		case !errors.Is(err, store.ErrLocked):
			return release, nil
		}
		// The hint about the change arrives in between; if it gets lost, the
		// lock becomes free.
		select {
		case <-ctx.Done():
			return release, unavailable(e.id, 0, errors.New("another replica's renewal takes too long"))
		case <-time.After(jitter(50*time.Millisecond, 150*time.Millisecond)):
		}
		if latest := e.current.Load(); latest != nil && done(latest) {
			return release, nil
		}
	}
}

// call asks the token endpoint for a new access token and stores what it
// gives; alone says that Redis does not answer. It has no context: once
// asked, HubSpot may have replaced the refresh token, so that the answer must
// not be missed.
func (s *Source) call(e *entry, h *held, why store.Cause, alone bool) (*Credential, error) {
	if s.options.App == nil {
		return nil, unavailable(e.id, mostPause, errNoApp)
	}
	if h.Kind != OAuth {
		return s.answer(e, h)
	}
	if err := s.paused(e); err != nil { // since the wait for the lock
		return nil, err
	}
	if err := s.foreign(e, h); err != nil {
		return nil, err
	}
	fingerprint := s.options.App.Fingerprint()
	began := s.now()
	called := time.Now()
	token, err := s.options.App.Refresh(s.life, h.Refresh)
	s.metrics.tokenCall(called, err)
	if err != nil {
		return s.failed(e, h, why, alone, fingerprint, err)
	}
	if token.Portal != "" && token.Portal != e.id {
		err := fmt.Errorf("the refresh token that is stored for the portal is one of portal %s: connect it again", token.Portal)
		s.log.Error("a portal has another one's token", zap.String("portal", e.id), zap.Error(err))
		return nil, s.postpone(e, 0, err)
	}
	e.tokens++
	s.resume(e)
	r := accepted(h.Record, token)
	if h.State == Ended {
		s.log.Info("HubSpot accepts a portal's grant again", zap.String("portal", e.id), zap.Time("refused_since", h.EndedAt))
	}
	// As exact as they are stored, so that what is read later is the same.
	r.RenewedAt, r.RenewedFor = s.now().Truncate(time.Millisecond), why
	r = r.WithEvent(r.RenewedAt, string(why))
	r.ExpiresAt = began.Add(token.Life).Truncate(time.Millisecond)
	// The next one after the former. Redis gives it a number by its clock when
	// it is stored; without Redis, the process' clock does.
	r.Generation++
	if alone {
		r.Generation = max(r.Generation, s.now().UnixMicro())
	}
	return s.keep(e, h.Record, r, alone)
}

// keep makes a renewed record the one that is held, and stores it: later, if
// Redis does not answer, because the one who waits has waited for it before.
func (s *Source) keep(e *entry, from, r store.Record, alone bool) (*Credential, error) {
	next := s.held(e.id, r)
	e.succeed(next, from)
	s.directory.note(e.id, r, nil)
	s.log.Info("renewed a portal's access token", zap.String("portal", e.id),
		zap.String("for", string(r.RenewedFor)), zap.Time("expires", r.ExpiresAt))
	if alone {
		s.unsaved(e)
		return next.credential, nil
	}
	latest, err := s.storeRenewed(e, from, r)
	switch {
	case err != nil:
		s.trouble.Error("a renewed portal could not be stored yet; it is kept in memory", zap.String("portal", e.id), zap.Error(err))
		s.unsaved(e)
		return next.credential, nil
	case latest == nil:
		return next.credential, nil
	}
	credential, err := s.answer(e, latest)
	if err == errExpired {
		err = s.postpone(e, 0, errors.New("the access token had expired when it arrived"))
	}
	return credential, err
}

// unsaved makes sure that what only this process has is stored.
func (s *Source) unsaved(e *entry) {
	e.unsaved.Store(true)
	s.pending.add(e)
}

// storeRenewed stores a record in the place of the one that it was renewed
// from. If Redis has another one by now, what is the truth is decided anew.
func (s *Source) storeRenewed(e *entry, from, r store.Record) (*held, error) {
	stored, err := s.store.Write(s.life, e.id, store.Change{Record: r, Numbering: store.Renew, Replaces: &from})
	if changed := (*store.Conflict)(nil); errors.As(err, &changed) {
		err = s.settle(s.life, e)
	} else if err == nil {
		s.take(e, &stored)
		s.stored(e.id, from, stored)
	}
	return e.current.Load(), err
}

// failed decides what follows from an error of the token endpoint.
func (s *Source) failed(e *entry, h *held, why store.Cause, alone bool, fingerprint string, err error) (*Credential, error) {
	var refusal *hubspot.Error
	if !errors.As(err, &refusal) {
		refusal = &hubspot.Error{}
	}
	if refusal.Kind == hubspot.GrantEnded && !alone {
		return s.grantEnded(e, h, why, fingerprint, refusal)
	}
	credential, err := s.notRenewed(e, refusal, err)
	if h.State != Ended {
		return credential, err
	}
	// Noted, so that the other replicas do not try it as well.
	_ = s.note(e, h, fingerprint, "")
	ended := s.ended(e.id, h)
	ended.Err = err
	return nil, ended
}

// notRenewed begins a pause after a call of the token endpoint that failed.
func (s *Source) notRenewed(e *entry, refusal *hubspot.Error, err error) (*Credential, error) {
	if refusal.Kind == hubspot.AppRefused {
		s.trouble.Error("HubSpot refuses the app: check HUBSPOT_CLIENT_ID and HUBSPOT_CLIENT_SECRET", zap.Error(err))
	} else {
		s.trouble.Warn("a portal's access token could not be renewed", zap.String("portal", e.id), zap.Error(err))
	}
	if refusal.Kind == hubspot.AppRefused || refusal.Status == http.StatusTooManyRequests {
		return nil, s.postponeAll(e, refusal.RetryAfter, err)
	}
	return nil, s.postpone(e, refusal.RetryAfter, err)
}
