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

// rejectionInterval is the time for which a renewal because of a 401 is not repeated. HubSpot also
// answers 401 for reasons that no renewal cures, such as an endpoint that requires a developer key.
const rejectionInterval = 30 * time.Second

// rereadEvery is the shortest interval at which a static record is read because of 401s.
const rereadEvery = time.Second

// steadyAfter is the time after a failure of Redis for which HubSpot's refusal of a grant is not
// stored, because another replica may have a newer refresh token. It is longer than the pause of
// [Source.reconcilePending] between two tries.
const steadyAfter = 10 * time.Second

var errNoApp = errors.New("set HUBSPOT_CLIENT_ID and HUBSPOT_CLIENT_SECRET to renew OAuth tokens")

// obtain returns the portal's credential. It reads the record if it is not cached, and renews the
// credential if it has expired.
func (s *Source) obtain(ctx context.Context, id string) (*Credential, error) {
	e := s.entry(id)
	h := e.current.Load()
	if h == nil {
		if err := e.isUnusable(s.now()); err != nil {
			return nil, err
		}
		var err error
		if h, err = s.read(ctx, e); err != nil {
			return nil, s.readError(e, err)
		}
	}
	credential, err := s.answer(e, h)
	if err == errExpired {
		return s.renew(ctx, e, h, store.Expiry)
	}
	return credential, err
}

// replace returns the portal's credential if it differs from the rejected one. Otherwise replace
// renews it, unless it is too early for that.
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
		h.credential.learned.useless.Store(true) // the credential was used until now
	} else if !e.mayRenew(rejected, expired, s.now()) {
		return nil, ErrNoOther
	}
	return s.renew(ctx, e, h, store.Rejection)
}

// mayRenew reports whether a rejected credential may be renewed. It returns false if the credential
// results from a recent renewal, or if a renewal because of a 401 was tried recently. expired means
// that HubSpot has named the expiry as the reason. Then mayRenew returns false only if the
// credential results from a recent renewal because of a 401 and HubSpot has never accepted it.
func (e *entry) mayRenew(rejected *Credential, expired bool, now time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	recently := now.Sub(rejected.renewedAt) < rejectionInterval
	if expired {
		return !recently || rejected.renewedFor != store.Rejection || rejected.learned.served.Load()
	}
	if recently || now.Sub(e.attempt) < rejectionInterval {
		return false
	}
	e.attempt = now
	return true
}

// reread reads the record again and returns the new credential if a rejected static credential
// was replaced.
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
		return nil, s.readError(e, err)
	}
	if !s.needsNoRenewal(e, latest, h) {
		return nil, ErrNoOther
	}
	return s.answer(e, latest)
}

// renew replaces the credential of old, except during a pause, and counts the renewal.
func (s *Source) renew(ctx context.Context, e *entry, old *held, why store.Cause) (*Credential, error) {
	if err := s.paused(e); err != nil {
		return nil, err
	}
	if err := e.isUnusable(s.now()); err != nil {
		return nil, err
	}
	current := e.current.Load()
	done := current != nil && s.needsNoRenewal(e, current, old) // the flight before this one has renewed the portal
	began, tokens := time.Now(), e.tokens
	credential, err := s.renewOrAdopt(ctx, e, old, why)
	if !done {
		s.metrics.renewal(began, e.tokens > tokens, err)
	}
	return credential, err
}

// renewOrAdopt replaces the credential of old. If another replica has stored a newer credential,
// renewOrAdopt returns that credential. Otherwise it calls the token endpoint. The lock keeps
// replicas from calling the token endpoint at the same time. Even without the lock, no newer token
// is overwritten.
func (s *Source) renewOrAdopt(ctx context.Context, e *entry, old *held, why store.Cause) (*Credential, error) {
	latest, withoutRedis, err := s.latest(ctx, e, old)
	if err != nil {
		return nil, err
	}
	if err := s.foreign(e, latest); err != nil {
		return nil, err
	}
	if !withoutRedis && !s.needsNoRenewal(e, latest, old) {
		early := why == store.Expiry && latest.usable(s.now())
		release, err := s.lock(ctx, e, early, func(h *held) bool { return s.needsNoRenewal(e, h, old) })
		if err != nil {
			return nil, err
		}
		defer release()
		if latest, withoutRedis, err = s.latest(ctx, e, old); err != nil {
			return nil, err
		}
	}
	if s.needsNoRenewal(e, latest, old) {
		return s.answer(e, latest)
	}
	return s.call(e, latest, why, withoutRedis)
}

// latest reads the portal's record. If Redis does not answer, latest returns the record that the
// process holds, or old, and withoutRedis is true.
func (s *Source) latest(ctx context.Context, e *entry, old *held) (h *held, withoutRedis bool, err error) {
	h, err = s.read(ctx, e)
	if _, is := errors.AsType[*store.Error](err); is {
		if current := e.current.Load(); current != nil {
			old = current // an earlier flight may have renewed the portal
		}
		return old, true, nil
	}
	if err != nil {
		return nil, false, s.readError(e, err)
	}
	return h, false, nil
}

// lock acquires the portal's lock, and keeps it until release is called. It returns without the
// lock if Redis does not answer, or if done returns true for the held record while lock waits for
// another replica. early means that the access token is still valid. An early renewal is postponed
// while Redis refuses writes, as during a failover, because a new refresh token could not be stored.
func (s *Source) lock(ctx context.Context, e *entry, early bool, done func(*held) bool) (release func(), err error) {
	release = func() {}
	for {
		lock, err := s.store.Lock(ctx, s.service, e.id)
		switch {
		case err == nil:
			// The lock is released in the background, so that no request waits for a Redis
			// that hangs.
			return func() { s.work.Go(func() { lock.Release(s.service) }) }, nil
		case early && store.RefusesWrites(err):
			e.aheadAt.Store(s.now().Add(checkSoon).UnixNano())
			return release, errPutOff
		case !errors.Is(err, store.ErrLocked):
			return release, nil
		}
		// The hint about the other replica's change arrives meanwhile. If the hint is lost,
		// the lock becomes free.
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
	s.metrics.tokenCall(called, err)
	if err != nil {
		return s.failed(e, h, why, withoutRedis, fingerprint, err)
	}
	if token.Portal != "" && token.Portal != e.id {
		err := fmt.Errorf("the refresh token that is stored for the portal is one of portal %s: connect it again", token.Portal)
		s.log.Error("the refresh token that is stored for a portal belongs to another portal", zap.String("portal", e.id), zap.Error(err))
		return nil, s.postpone(e, 0, err)
	}
	e.tokens++
	s.resume(e)
	r := accepted(h.Record, token)
	if h.State == Ended {
		s.log.Info("HubSpot accepts a portal's grant again", zap.String("portal", e.id), zap.Time("refused_since", h.EndedAt))
	}
	// Times are truncated to milliseconds, so that they are the same when they are read from
	// Redis.
	r.RenewedAt, r.RenewedFor = s.now().Truncate(time.Millisecond), why
	r = r.WithEvent(r.RenewedAt, string(why))
	r.ExpiresAt = began.Add(token.Life).Truncate(time.Millisecond)
	// When the record is stored, Redis sets the generation by its clock. Without Redis, the
	// process's clock is used.
	r.Generation++
	if withoutRedis {
		r.Generation = max(r.Generation, s.now().UnixMicro())
	}
	return s.keep(e, h.Record, r, withoutRedis)
}

// keep makes a renewed record the held record and stores it. If Redis does not answer, keep stores
// it later in the background, because the request has already waited for Redis once.
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
	latest, err := s.storeRenewed(e, from, r)
	switch {
	case err != nil:
		s.throttled.Error("a renewed portal could not be stored yet; it is kept in memory", zap.String("portal", e.id), zap.Error(err))
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

// unsaved marks a portal whose credential only this process has, and makes it be stored.
func (s *Source) unsaved(e *entry) {
	e.unsaved.Store(true)
	s.pending.add(e)
}

// storeRenewed stores the record r that was renewed from the record from. If Redis has another
// record than from, storeRenewed reconciles both. It returns the record that is held afterwards.
func (s *Source) storeRenewed(e *entry, from, r store.Record) (*held, error) {
	stored, err := s.store.Write(s.service, e.id, store.Change{Record: r, Numbering: store.Renew, Replaces: &from})
	if _, changed := errors.AsType[*store.Conflict](err); changed {
		err = s.sync(s.service, e)
	} else if err == nil {
		s.merge(e, &stored)
		s.stored(e.id, from, stored)
	}
	return e.current.Load(), err
}

// failed handles an error of the token endpoint.
func (s *Source) failed(e *entry, h *held, why store.Cause, withoutRedis bool, fingerprint string, err error) (*Credential, error) {
	refusal, is := errors.AsType[*hubspot.Error](err)
	if !is {
		refusal = &hubspot.Error{}
	}
	if refusal.Kind == hubspot.GrantEnded && !withoutRedis {
		return s.grantEnded(e, h, why, fingerprint, refusal)
	}
	credential, err := s.notRenewed(e, refusal, err)
	if h.State != Ended {
		return credential, err
	}
	// The try is stored, so that the other replicas do not try the grant too.
	_ = s.storeTry(e, h, fingerprint, "")
	ended := s.ended(e.id, h)
	ended.Err = err
	return nil, ended
}

// notRenewed logs a failed call of the token endpoint, and begins a pause.
func (s *Source) notRenewed(e *entry, refusal *hubspot.Error, err error) (*Credential, error) {
	if refusal.Kind == hubspot.AppRefused {
		s.throttled.Error("HubSpot refuses the app: check HUBSPOT_CLIENT_ID and HUBSPOT_CLIENT_SECRET", zap.Error(err))
	} else {
		s.throttled.Warn("a portal's access token could not be renewed", zap.String("portal", e.id), zap.Error(err))
	}
	if refusal.Kind == hubspot.AppRefused || refusal.Status == http.StatusTooManyRequests {
		return nil, s.postponeAll(e, refusal.RetryAfter, err)
	}
	return nil, s.postpone(e, refusal.RetryAfter, err)
}
