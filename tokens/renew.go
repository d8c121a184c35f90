package tokens

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"hubspot-auth-proxy/tokens/store"
)

// rejectionInterval is the time for which a renewal because of a 401 is not repeated. HubSpot also
// answers 401 for reasons that no renewal cures, such as an endpoint that requires a developer key.
const rejectionInterval = 30 * time.Second

// rereadEvery is the shortest interval at which a record that is not renewed is read because of 401s.
const rereadEvery = time.Second

// obtain returns the portal's credential. It reads the record if it is not cached, and renews the
// credential if it has expired.
func (s *Source) obtain(ctx context.Context, id string) (*Credential, error) {
	e := s.entry(id)
	h := e.current.Load()
	if h == nil {
		if err := e.unusable.check(e.id, s.now()); err != nil {
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
// renews it or, if it is too early for that, reads the record again.
func (s *Source) replace(ctx context.Context, rejected *Credential, expired bool) (*Credential, error) {
	e := s.entry(rejected.Portal)
	h := e.current.Load()
	if h == nil || !h.Secret.Equal(rejected.Secret) {
		return s.obtain(ctx, e.id)
	}
	if h.Kind != OAuth {
		return s.reread(ctx, e, h)
	}
	if h.State == Ended {
		h.credential.learned.useless.Store(true) // the credential was used until now
	} else if !e.mayRenew(rejected, expired, s.now()) {
		return s.reread(ctx, e, h)
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

// reread reads the record again and returns the new credential if the rejected one was replaced. The
// hint of that may be lost, for example if Redis has just lost its data.
func (s *Source) reread(ctx context.Context, e *entry, h *held) (*Credential, error) {
	if !mayReread(&e.lastRead, s.now()) {
		return nil, ErrNoOther
	}
	if h.Kind != OAuth {
		s.options.Rejected(ctx, e.id)
	}
	latest, err := s.read(ctx, e)
	if err != nil {
		return nil, s.readError(e, err)
	}
	if !s.needsNoRenewal(e, latest, h) {
		return nil, ErrNoOther
	}
	return s.answer(e, latest)
}

// mayReread reports whether rereadEvery has passed since last, and if so sets last to now. last is in
// ns since 1970.
func mayReread(last *atomic.Int64, now time.Time) bool {
	former := last.Load()
	return now.Sub(time.Unix(0, former)) >= rereadEvery && last.CompareAndSwap(former, now.UnixNano())
}

// renew replaces the credential of old, except during a pause, and counts the renewal.
func (s *Source) renew(ctx context.Context, e *entry, old *held, why store.Cause) (*Credential, error) {
	if err := s.paused(e); err != nil {
		return nil, err
	}
	if err := e.unusable.check(e.id, s.now()); err != nil {
		return nil, err
	}
	done := s.needsNoRenewal(e, e.current.Load(), old) // the flight before this one has renewed the portal
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
	latest, withoutRedis, err := s.latest(ctx, e)
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
		if latest, withoutRedis, err = s.latest(ctx, e); err != nil {
			return nil, err
		}
	}
	if s.needsNoRenewal(e, latest, old) {
		return s.answer(e, latest)
	}
	return s.call(e, latest, why, withoutRedis)
}

// latest reads the portal's record. If Redis does not answer, latest returns the record that the
// process holds, and withoutRedis is true.
func (s *Source) latest(ctx context.Context, e *entry) (h *held, withoutRedis bool, err error) {
	h, err = s.read(ctx, e)
	if _, is := errors.AsType[*store.Error](err); is {
		return e.current.Load(), true, nil
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
		unlock, err := s.store.Lock(ctx, s.service, e.id)
		switch {
		case err == nil:
			// The lock is released in the background, so that no request waits for a Redis
			// that hangs.
			return func() { s.work.Go(unlock) }, nil
		case early && store.RefusesWrites(err):
			e.aheadAt.Store(s.now().Add(checkSoon).UnixNano())
			return release, errPostponed
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
		if done(e.current.Load()) {
			return release, nil
		}
	}
}
