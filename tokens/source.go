package tokens

import (
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

// NewSource returns a source that listens for the changes of other replicas
// until it is closed. It does not wait for Redis.
func NewSource(options Options) *Source {
	s := &Source{
		options: options,
		now:     options.Now,
		log:     options.Log,
		portals: otter.Must(&otter.Options[string, *entry]{MaximumSize: maxPortals}),
		unknown: otter.Must(&otter.Options[string, time.Time]{MaximumSize: maxUnknown}),
		closing: make(chan struct{}),

		directory: newDirectory(),
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.log == nil {
		s.log = zap.NewNop()
	}
	s.store = store.New(store.Database{Redis: options.Redis, Prefix: options.Prefix}, options.Keys, s.now)
	s.trouble = throttle.Logger(s.log, throttle.Every)
	s.metrics = newMetrics(options.Metrics, s.store.Health, s.countPortals, s.countAll, s.pending.unsaved)
	s.pending.wake = make(chan struct{}, 1)
	s.life, s.end = context.WithCancel(context.Background())
	s.local.Store(options.Local)
	s.store.OnChange(s.redisChanged(time.Now()))
	s.loops.Go(func() { s.store.Hints(s.life, s.resync, s.hintAll, s.hint) })
	s.loops.Go(s.reconcilePending)
	return s
}

// Close ends the source. Renewals under way come to their end and what could
// not be stored is tried once more, as long as ctx lasts; its error says that
// something was left undone.
func (s *Source) Close(ctx context.Context) error {
	s.mu.Lock()
	if !s.closed() {
		close(s.closing)
	}
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
	err = errors.Join(err, s.settleLast(ctx))
	s.end()
	s.loops.Wait()
	<-done
	_ = s.trouble.Sync() // a terminal cannot be synced
	return err
}

// Credential returns the portal's credential: from the cache, else from Redis,
// and renewed if it has expired. A request waits for it 10 seconds at most.
//
// The error is [ErrNotConnected], an [*EndedError], an [*UnavailableError], or
// ctx's.
func (s *Source) Credential(ctx context.Context, portal string) (*Credential, error) {
	if local := s.local.Load(); local != nil && local.Portal == portal {
		return local, nil
	}
	if own, waiting := s.provided(portal); waiting {
		return s.beforeJoined(ctx, portal, own)
	}
	return s.credential(ctx, portal)
}

func (s *Source) credential(ctx context.Context, portal string) (*Credential, error) {
	now := s.now()
	if e, known := s.portals.GetIfPresent(portal); known {
		if e.hinted() && s.store.Answers() {
			s.follow(ctx, e)
		}
		if h := e.current.Load(); h != nil {
			s.attend(e, h, now)
			if credential, err := s.answer(e, h); err != errExpired {
				return credential, err
			}
		}
	} else if until, known := s.unknown.GetIfPresent(portal); known && now.Before(until) {
		return nil, ErrNotConnected
	}
	// A flight that was under way may be one of Renew, or end at the very
	// moment of the expiry.
	for range 2 {
		credential, err := s.wait(ctx, portal, func(ctx context.Context) (*Credential, error) {
			return s.obtain(ctx, portal)
		})
		if err != ErrNoOther && err != errExpired {
			return credential, err
		}
	}
	return nil, unavailable(portal, 0, errExpired)
}

// Renew returns another credential than the one that HubSpot has rejected with
// a 401, if there is one or it is time to ask for one; expired tells that
// HubSpot gave the token's expiry as its reason. Else the error is
// [ErrNoOther], or one of those of [Source.Credential].
func (s *Source) Renew(ctx context.Context, rejected *Credential, expired bool) (*Credential, error) {
	if local := s.local.Load(); local != nil && local.Portal == rejected.Portal {
		return s.replaceLocal(ctx, rejected)
	}
	if _, waiting := s.provided(rejected.Portal); waiting && !s.store.Answered() {
		return nil, ErrNoOther
	}
	// A flight that was under way may have begun before the rejection, and
	// end with what was rejected.
	for range 2 {
		credential, err := s.wait(ctx, rejected.Portal, func(ctx context.Context) (*Credential, error) {
			return s.replace(ctx, rejected, expired)
		})
		if gone := (*EndedError)(nil); errors.As(err, &gone) {
			rejected.learned.dead.Store(true)
		}
		if err != nil || !credential.Secret.Equal(rejected.Secret) {
			return credential, err
		}
	}
	return nil, ErrNoOther
}

// wait does one flight for the portal, or joins the one under way, and waits
// for its end, or ctx's, or until requestTimeout is at an end. The flight goes on
// without it.
func (s *Source) wait(ctx context.Context, portal string, do func(context.Context) (*Credential, error)) (*Credential, error) {
	timeout := time.NewTimer(requestTimeout)
	defer timeout.Stop()
	select {
	case result := <-s.flight(portal, do):
		credential, _ := result.Val.(*Credential)
		return credential, result.Err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-timeout.C:
		return nil, unavailable(portal, 0, context.DeadlineExceeded)
	}
}

// attend begins what the portal needs, in the background: to be renewed or its
// ended grant to be tried, which begins with reading it again, or that only. It is read also while a renewal
// is under way, because that may take long.
func (s *Source) attend(e *entry, h *held, now time.Time) {
	due := !h.renewAt.IsZero() && !now.Before(h.renewAt) && s.paused(e) == nil || h.State == Ended && s.isDue(e, h)
	if due && now.UnixNano() >= e.aheadAt.Load() {
		began := s.background(&e.renewing, func() {
			<-s.flight(e.id, func(ctx context.Context) (*Credential, error) {
				return s.renew(ctx, e, h, store.Expiry)
			})
		})
		if began {
			return
		}
	}
	if now.UnixNano() >= e.checkAt.Load() {
		e.checkAfter(now, checkSoon) // or when it has been read
		s.check(e)
	}
}

// quietTime is how long after the start nothing is logged about a Redis that
// does not answer: the one who waits for it, or a command that needs it, says
// that better.
const quietTime = 2 * time.Second

// redisChanged returns what logs that Redis stops or begins to answer.
func (s *Source) redisChanged(start time.Time) func(error) {
	var logged atomic.Bool
	return func(err error) {
		switch {
		case err == nil && logged.CompareAndSwap(true, false):
			s.log.Info("Redis answers again")
			s.pending.hurry()
		case err != nil && s.life.Err() == nil && time.Since(start) > quietTime && logged.CompareAndSwap(false, true):
			s.log.Error("Redis does not answer; portals that are known are served and renewed without it", zap.Error(err))
		}
	}
}
