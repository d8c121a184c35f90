package tokens

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
	"go.uber.org/zap"

	"hubspot-auth-proxy/tokens/store"
	"hubspot-auth-proxy/tokens/throttle"
)

// NewSource returns a source, which follows the changes of other replicas until it is closed. It
// does not wait for Redis. The caller must close the source.
func NewSource(options Options) *Source {
	s := &Source{
		options:   options,
		now:       options.Now,
		log:       cmp.Or(options.Log, zap.NewNop()),
		portals:   otter.Must(&otter.Options[string, *entry]{MaximumSize: maxPortals}),
		unknown:   otter.Must(&otter.Options[string, time.Time]{MaximumSize: maxUnknown}),
		directory: newDirectory(),
		settled:   time.Now().Add(options.Settle),
	}
	if s.now == nil {
		s.now = time.Now
	}
	if options.Rejected == nil {
		s.options.Rejected = func(context.Context, string) {}
	}
	s.store = store.New(store.Database{Redis: options.Redis, Prefix: options.Prefix}, options.Keys, s.now)
	s.throttled = throttle.Logger(s.log, throttle.Every)
	s.metrics = newMetrics(options.Metrics, s.store.Health, s.countPortals, s.countAll, s.pending.unsaved)
	s.pending.wake = newSignal()
	s.service, s.end = context.WithCancel(context.Background())
	s.local.Store(options.Local)
	s.store.OnChange(s.redisChanged())
	s.loops.Go(func() { s.store.Hints(s.service, s.resync, s.hintAll, s.hint) })
	s.loops.Go(s.reconcilePending)
	return s
}

// Close closes the source. It waits for renewals under way, and tries to store renewed portals that
// are not stored yet, until ctx ends. An error means that a renewal was broken off or that a
// renewed portal is not stored.
func (s *Source) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.work.Wait()
	}()
	var err error
	select {
	case <-done:
	case <-ctx.Done():
		err = fmt.Errorf("renewals under way are broken off: %w", context.Cause(ctx))
	}
	err = errors.Join(err, s.syncLast(ctx))
	s.end()
	s.loops.Wait()
	<-done
	_ = s.throttled.Sync() // fails on a terminal
	return err
}

// Credential returns the portal's credential, from the cache or otherwise from Redis. If the
// credential has expired, Credential renews it first. Credential makes at most two tries, and waits
// for at most 10 seconds in each.
//
// The error is [ErrNotConnected], an [*EndedError], an [*UnavailableError], or ctx's error.
func (s *Source) Credential(ctx context.Context, portal string) (*Credential, error) {
	if local := s.local.Load(); local != nil && local.Portal == portal {
		return local, nil
	}
	if provisional := s.provisional.Load(); provisional != nil {
		return s.beforeJoined(ctx, portal, (*provisional)[portal])
	}
	return s.credential(ctx, portal)
}

// beforeJoined returns the portal's credential while the process waits for Redis. own is the
// provisional credential, or nil if there is none. beforeJoined does not wait for Redis itself.
func (s *Source) beforeJoined(ctx context.Context, portal string, own *Credential) (*Credential, error) {
	if s.store.Answered() || s.record(portal) != nil {
		credential, err := s.credential(ctx, portal)
		r := s.record(portal)
		removed := r != nil && r.State == Removed
		if err == nil || removed || own == nil && !errors.Is(err, ErrNotConnected) {
			return credential, err
		}
	}
	if own == nil { // Redis has not answered, or the portal's seed is not stored yet
		return nil, unavailable(portal, 0, errNotJoined)
	}
	return own, nil
}

func (s *Source) credential(ctx context.Context, portal string) (*Credential, error) {
	now := s.now()
	if e, known := s.portals.GetIfPresent(portal); known {
		if e.hinted() && s.store.Answers() {
			s.readHinted(ctx, e)
		}
		if h := e.current.Load(); h != nil {
			s.maintain(e, h, now)
			if credential, err := s.answer(e, h); err != errExpired {
				return credential, err
			}
		}
	} else if until, known := s.unknown.GetIfPresent(portal); known && now.Before(until) {
		return nil, ErrNotConnected
	}
	return s.waitTwice(ctx, portal, func(ctx context.Context) (*Credential, error) {
		return s.obtain(ctx, portal)
	})
}

// Renew returns a credential that differs from rejected, to which HubSpot has answered 401. If there
// is none yet, Renew renews the portal's token, unless it is too early for a renewal. expired means
// that HubSpot has named the token's expiry as the reason for the 401. The error is [ErrNoOther], or
// an error that [Source.Credential] can return. Renew waits as long as Credential at most.
func (s *Source) Renew(ctx context.Context, rejected *Credential, expired bool) (*Credential, error) {
	if local := s.local.Load(); local != nil && local.Portal == rejected.Portal {
		return s.replaceLocal(ctx, rejected)
	}
	if s.provisional.Load() != nil && !s.store.Answered() {
		return nil, ErrNoOther
	}
	// A flight that began before the rejection may return the rejected credential, or may be a
	// renewal ahead of time that is postponed. So there is a second try.
	for range 2 {
		credential, err := s.wait(ctx, rejected.Portal, func(ctx context.Context) (*Credential, error) {
			return s.replace(ctx, rejected, expired)
		})
		if _, ended := errors.AsType[*EndedError](err); ended {
			rejected.learned.useless.Store(true)
		}
		again := err == errPostponed || err == errExpired || err == nil && credential.Secret.Equal(rejected.Secret)
		if !again {
			return credential, err
		}
	}
	return nil, ErrNoOther
}

// maintain starts what is due for the portal in the background: a renewal, a try of the ended grant,
// or a read of the record. A renewal and a try read the record first. While a renewal is under way,
// the record is still read when that is due, because a renewal may take long.
func (s *Source) maintain(e *entry, h *held, now time.Time) {
	due := !h.renewAt.IsZero() && !now.Before(h.renewAt) && s.paused(e) == nil || h.State == Ended && s.isDue(e, h)
	if due && now.UnixNano() >= e.aheadAt.Load() && e.renewing.CompareAndSwap(false, true) {
		flight := s.flight(e.id, func(ctx context.Context) (*Credential, error) {
			return s.renew(ctx, e, h, store.Expiry)
		})
		go func() {
			<-flight
			e.renewing.Store(false)
		}()
		return
	}
	if now.UnixNano() >= e.checkAt.Load() {
		e.checkAfter(now, checkSoon) // replaced when the record was read
		s.check(e)
	}
}

// redisChanged returns a function that logs when Redis stops answering and when it answers again.
func (s *Source) redisChanged() func(error) {
	var logged atomic.Bool
	return func(err error) {
		switch {
		case err == nil && logged.CompareAndSwap(true, false):
			s.log.Info("Redis answers again")
			s.pending.wake.send()
		case err != nil && s.service.Err() == nil && logged.CompareAndSwap(false, true):
			s.log.Error("Redis does not answer; portals that are known are served and renewed without it", zap.Error(err))
		}
	}
}

// TryAgain tries the portal's grant at once if HubSpot has refused it, by one call of the token
// endpoint, and returns the credential. If the grant has not ended, TryAgain is like
// [Source.Credential]. The errors are those of [Source.Credential].
func (s *Source) TryAgain(ctx context.Context, portal string) (*Credential, error) {
	return s.waitTwice(ctx, portal, func(ctx context.Context) (*Credential, error) {
		e := s.entry(portal)
		old, err := s.read(ctx, e)
		if err != nil {
			return nil, s.readError(e, err)
		}
		if old.State != Ended {
			return s.obtain(ctx, portal)
		}
		tried := func(h *held) bool { return h.Newer(old.Record) }
		release, err := s.lock(ctx, e, false, tried)
		if err != nil {
			return nil, err
		}
		defer release()
		h, err := s.read(ctx, e)
		if err != nil {
			return nil, s.readError(e, err)
		}
		if tried(h) {
			return s.answer(e, h)
		}
		return s.call(e, h, store.Expiry, false)
	})
}
