package tokens

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/bsm/redislock"
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
// longer than [Source.saveUnsaved] waits between two tries.
const steadyAfter = 10 * time.Second

var errNoApp = errors.New("set HUBSPOT_CLIENT_ID and HUBSPOT_CLIENT_SECRET to renew OAuth tokens")

// replace returns the portal's credential if it is another one than the
// rejected one, and renews it if it is time to.
func (s *Source) replace(ctx context.Context, rejected *Credential, expired bool) (*Credential, error) {
	p := s.portal(rejected.Portal)
	snap := p.current.Load()
	if snap == nil {
		return s.obtain(ctx, p.id)
	}
	if !snap.secret.Equal(rejected.Secret) {
		credential, err := snap.answer(p.id, s.now())
		if err == errExpired {
			return s.renew(ctx, p, snap, expiry)
		}
		return credential, err
	}
	if snap.kind != OAuth {
		return s.reread(ctx, p, snap)
	}
	if snap.state == ended {
		snap.credential.dead.Store(true) // it was served until now
	} else if !p.mayRenew(rejected, expired, s.now()) {
		return nil, ErrNoOther
	}
	return s.renew(ctx, p, snap, rejection)
}

// mayRenew reports whether it is time to renew a rejected credential: not if
// it came of a renewal that was to cure the same, a moment ago.
func (p *portal) mayRenew(rejected *Credential, expired bool, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	recently := now.Sub(rejected.renewedAt) < notAgain
	if expired {
		return !recently || rejected.renewedFor != rejection || rejected.served.Load()
	}
	if recently || now.Sub(p.attempt) < notAgain {
		return false
	}
	p.attempt = now
	return true
}

// reread looks whether a rejected static credential was replaced.
func (s *Source) reread(ctx context.Context, p *portal, snap *snapshot) (*Credential, error) {
	now := s.now()
	p.mu.Lock()
	soon := now.Sub(p.lastRead) < rereadEvery
	if !soon {
		p.lastRead = now
	}
	p.mu.Unlock()
	if soon {
		return nil, ErrNoOther
	}
	latest, err := s.read(ctx, p)
	if err != nil {
		return nil, s.noCredential(p, err)
	}
	if !latest.settles(snap, now) {
		return nil, ErrNoOther
	}
	credential, err := latest.answer(p.id, now)
	return credential, err
}

// renew replaces what old has, unless it is not the time to, and counts that.
func (s *Source) renew(ctx context.Context, p *portal, old *snapshot, why cause) (*Credential, error) {
	if err := s.paused(p); err != nil {
		return nil, err
	}
	if err := p.isUnusable(s.now()); err != nil {
		return nil, err
	}
	current := p.current.Load()
	done := current != nil && current.settles(old, s.now()) // by the flight before this one
	began, tokens := time.Now(), p.tokens
	credential, err := s.renewOrAdopt(ctx, p, old, why)
	if !done {
		s.metrics.renewal(began, p.tokens > tokens, err)
	}
	return credential, err
}

// renewOrAdopt replaces what old has: by what another replica has stored
// meanwhile, else by what the token endpoint gives. The lock keeps replicas
// from calling it at once; that no newer token is overwritten does not depend
// on it.
func (s *Source) renewOrAdopt(ctx context.Context, p *portal, old *snapshot, why cause) (*Credential, error) {
	latest, alone, err := s.latest(ctx, p, old)
	if err != nil {
		return nil, err
	}
	if !alone && !latest.settles(old, s.now()) {
		release, err := s.lease(ctx, p, old)
		if err != nil {
			return nil, err
		}
		defer release()
		if latest, alone, err = s.latest(ctx, p, old); err != nil {
			return nil, err
		}
	}
	if latest.settles(old, s.now()) {
		return latest.answer(p.id, s.now())
	}
	return s.call(p, latest, why, alone)
}

// latest reads the portal's record. If Redis does not answer, it returns what
// the process has, old at least, and alone is true.
func (s *Source) latest(ctx context.Context, p *portal, old *snapshot) (snap *snapshot, alone bool, err error) {
	snap, err = s.read(ctx, p)
	if failure := (*store.Error)(nil); errors.As(err, &failure) {
		if current := p.current.Load(); current != nil {
			old = current // a flight that ended before this one has renewed it
		}
		return old, true, nil
	}
	if err != nil {
		return nil, false, s.noCredential(p, err)
	}
	return snap, false, nil
}

// lease takes the portal's lock and keeps it until release is called. It
// returns without the lock if Redis does not answer, and if another replica
// has renewed old before the lock was free.
func (s *Source) lease(ctx context.Context, p *portal, old *snapshot) (release func(), err error) {
	release = func() {}
	for {
		lock, err := s.store.lock(ctx, p.id)
		switch {
		case err == nil:
			return s.hold(lock), nil
		case !errors.Is(err, redislock.ErrNotObtained):
			s.heard(store.Failure("lock in Redis", err))
			return release, nil
		}
		// The event of the change arrives in between; if it gets lost, the
		// lock becomes free.
		select {
		case <-ctx.Done():
			return release, unavailable(p.id, 0, errors.New("another replica's renewal takes too long"))
		case <-time.After(jitter(50*time.Millisecond, 150*time.Millisecond)):
		}
		if latest := p.current.Load(); latest != nil && latest.settles(old, s.now()) {
			return release, nil
		}
	}
}

// hold keeps a lock until release is called, so that it may be taken over
// within leaseTime of this process' end, and yet cover a slow call.
func (s *Source) hold(lock *redislock.Lock) (release func()) {
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		ticker := time.NewTicker(leaseTime / 3)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				ctx, cancel := context.WithTimeout(s.life, store.Timeout)
				_ = lock.Refresh(ctx, leaseTime, nil) // lost or not: storing is safe without it
				cancel()
			case <-stop:
				return
			}
		}
	}()
	return func() {
		close(stop)
		// A Redis that hangs is not to keep waiting who wants the token.
		s.work.Go(func() {
			<-stopped
			ctx, cancel := context.WithTimeout(s.life, store.Timeout)
			defer cancel()
			_ = lock.Release(ctx) // else it ends by itself
		})
	}
}

// call asks the token endpoint for a new access token and stores what it
// gives; alone tells that Redis does not answer. It has no context: once
// asked, HubSpot may have replaced the refresh token, so that the answer must
// not be missed.
func (s *Source) call(p *portal, snap *snapshot, why cause, alone bool) (*Credential, error) {
	if s.options.App == nil {
		return nil, unavailable(p.id, mostPause, errNoApp)
	}
	if snap.kind != OAuth {
		return snap.answer(p.id, s.now())
	}
	if err := s.paused(p); err != nil { // since the wait for the lock
		return nil, err
	}
	began := s.now()
	called := time.Now()
	token, err := s.options.App.Refresh(s.life, snap.refresh)
	s.metrics.tokenCall(called, err)
	if err != nil {
		return s.failed(p, snap, why, alone, err)
	}
	if token.Portal != "" && token.Portal != p.id {
		err := fmt.Errorf("the refresh token that is stored for the portal is one of portal %s: connect it again", token.Portal)
		s.log.Error("a portal has another one's token", zap.String("portal", p.id), zap.Error(err))
		return nil, s.postpone(p, 0, err)
	}
	p.tokens++
	s.resume(p)
	r := snap.record
	r.state, r.endedCode = active, ""
	r.secret = token.Access
	if !token.Refresh.IsZero() {
		r.refresh = token.Refresh
	}
	// As exact as they are stored, so that what is read later is the same.
	r.renewedAt, r.renewedFor = s.now().Truncate(time.Millisecond), why
	r.expiresAt = began.Add(token.Life).Truncate(time.Millisecond)
	// Redis gives it a greater generation, as it gives to whatever another
	// replica stores meanwhile.
	r.generation = snap.stored + 1
	next := s.snapshot(p.id, r, snap.stored, snap.epoch)
	next.from = snap.record
	return s.keep(p, next, alone)
}

// keep makes a renewed snapshot the current one and stores it, in the background
// if Redis does not answer: whoever waits has waited for it before.
func (s *Source) keep(p *portal, next *snapshot, alone bool) (*Credential, error) {
	p.succeed(next)
	s.log.Info("renewed a portal's access token", zap.String("portal", p.id),
		zap.String("for", string(next.renewedFor)), zap.Time("expires", next.expiresAt))
	if alone {
		s.unsaved.add(p)
		return next.credential, nil
	}
	saved, err := s.save(s.life, p, next, next.stored)
	switch {
	case errors.Is(err, ErrNotConnected):
		return nil, err
	case err != nil:
		s.trouble.Error("a renewed portal could not be stored yet; it is kept in memory", zap.String("portal", p.id), zap.Error(err))
		s.unsaved.add(p)
		return next.credential, nil
	}
	credential, err := saved.answer(p.id, s.now())
	if err == errExpired {
		err = s.postpone(p, 0, errors.New("the access token had expired when it arrived"))
	}
	return credential, err
}

// failed decides what follows from an error of the token endpoint.
func (s *Source) failed(p *portal, snap *snapshot, why cause, alone bool, err error) (*Credential, error) {
	var refusal *hubspot.Error
	if !errors.As(err, &refusal) {
		refusal = &hubspot.Error{}
	}
	// Without Redis, and for a while after, nobody knows whether another
	// replica has a newer refresh token.
	if refusal.Kind == hubspot.GrantEnded && !alone && s.steady() {
		return s.grantEnded(p, snap, why, refusal)
	}
	if refusal.Kind == hubspot.AppRefused {
		s.trouble.Error("HubSpot refuses the app: check HUBSPOT_CLIENT_ID and HUBSPOT_CLIENT_SECRET", zap.Error(err))
	} else {
		s.trouble.Warn("a portal's access token could not be renewed", zap.String("portal", p.id), zap.Error(err))
	}
	if refusal.Kind == hubspot.AppRefused || refusal.Status == http.StatusTooManyRequests {
		return nil, s.postponeAll(p, refusal.RetryAfter, err)
	}
	return nil, s.postpone(p, refusal.RetryAfter, err)
}

// grantEnded marks the portal's grant as ended, unless somebody has connected
// the portal again.
func (s *Source) grantEnded(p *portal, snap *snapshot, why cause, refusal *hubspot.Error) (*Credential, error) {
	var err error
	for range 3 { // it may be changed at the same moment
		var latest *snapshot
		latest, err = s.read(s.life, p)
		switch {
		case errors.Is(err, ErrNotConnected):
			return nil, err
		case err != nil:
			return nil, s.postpone(p, 0, err)
		case latest.settles(snap, s.now()):
			return latest.answer(p.id, s.now())
		case !latest.refresh.Equal(snap.refresh):
			return s.call(p, latest, why, false)
		}
		r := latest.record
		r.state, r.endedCode = ended, refusal.Code
		_, err = s.store.write(s.life, p.id, change{record: r, expected: r.generation, keep: true})
		s.heard(err)
		if err == nil {
			s.log.Warn("HubSpot has ended a portal's grant: it has to be connected again",
				zap.String("portal", p.id), zap.String("code", refusal.Code))
			p.replace(latest, s.snapshot(p.id, r, r.generation, s.knownEpoch()))
			return nil, &EndedError{Portal: p.id, Code: refusal.Code}
		}
	}
	// Not to ask the token endpoint again and again what cannot be noted.
	return nil, s.postpone(p, 0, err)
}
