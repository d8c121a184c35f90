package tokens

import (
	"context"
	"errors"
	"strings"

	"github.com/maypok86/otter/v2"
	"go.uber.org/zap"
	"golang.org/x/sync/singleflight"

	"hubspot-auth-proxy/tokens/store"
)

// read reads the portal's record and returns what is current then. The error
// is ErrNotConnected, or says that Redis does not answer or the record cannot
// be used.
func (s *Source) read(ctx context.Context, p *portal) (*snapshot, error) {
	for tries := 3; ; tries-- {
		hints := p.hints.Load()
		snap, err := s.readOnce(ctx, p)
		if err != nil && !errors.Is(err, ErrNotConnected) {
			return nil, err
		}
		p.followed.Store(hints)
		if !p.hinted() || tries == 0 { // else it was changed while it was read
			return snap, err
		}
	}
}

func (s *Source) readOnce(ctx context.Context, p *portal) (*snapshot, error) {
	if s.knownEpoch() == "" { // without it, a loss could not be told later
		if err := s.askEpoch(ctx); err != nil {
			return nil, err
		}
	}
	for {
		held := p.current.Load()
		r, err := s.store.load(ctx, p.id)
		s.heard(err)
		switch {
		case errors.Is(err, errNoRecord):
			return s.missing(ctx, p, held)
		case err != nil:
			return nil, err
		}
		if held != nil {
			outlives, err := s.outlives(ctx, held, r)
			if err != nil {
				return nil, err
			}
			if outlives {
				return s.save(ctx, p, held, r.generation)
			}
		}
		next := s.snapshot(p.id, r, r.generation, s.knownEpoch())
		if p.replace(held, next) {
			if r.state == removed && held != nil && held.state != removed {
				s.log.Info("portal was removed", zap.String("portal", p.id))
			}
			return next, nil
		}
		// Something took the place of held meanwhile, and what was read may
		// be older than that.
	}
}

// check reads the portal's record again, or joins the reading that is under
// way, and returns what ends when that does.
func (s *Source) check(p *portal) <-chan singleflight.Result {
	return s.flights.DoChan("read:"+p.id, func() (any, error) {
		if !s.begin() {
			return nil, errClosed
		}
		defer s.work.Done()
		hints := p.hints.Load()
		_, err := s.read(s.life, p)
		if err == nil || errors.Is(err, ErrNotConnected) {
			return nil, nil
		}
		// The portal is served as it is known, and read again a bit later.
		p.followed.Store(hints)
		if snap := p.current.Load(); snap != nil {
			snap.checkAfter(s.now(), checkSoon)
		}
		return nil, s.noCredential(p, err)
	})
}

// missing decides what it means that Redis has no record of the portal. To be
// removed is something else: it leaves a tombstone.
func (s *Source) missing(ctx context.Context, p *portal, held *snapshot) (*snapshot, error) {
	if held != nil {
		lost, err := s.lost(ctx, held)
		if err != nil {
			return nil, err
		}
		if lost {
			return s.save(ctx, p, held, 0)
		}
	}
	if !p.drop(held) {
		return s.read(ctx, p) // somebody has read or stored it meanwhile
	}
	// There never was one, or somebody deleted it by hand.
	s.unknown.Set(p.id, s.now().Add(unknownTime))
	s.portals.Invalidate(p.id)
	return nil, ErrNotConnected
}

// outlives reports whether what the process holds is to replace what Redis
// has: because Redis went back to an earlier state, as in a failover, or has
// what held was renewed from, or lost its data and was given something older
// by another process.
func (s *Source) outlives(ctx context.Context, held *snapshot, r record) (bool, error) {
	switch {
	case r.state == removed:
		return false, nil
	case held.newer(r):
		return true, nil
	case !held.saved() && held.from.sameTokens(r):
		return true, nil
	case !held.supersedes(r):
		return false, nil
	}
	return s.lost(ctx, held)
}

// supersedes reports whether the record is older than s, provided that they
// are of different lives of Redis, where generations tell nothing: it was
// renewed before s was, or is a seed that s was renewed from, or removed after.
func (s *snapshot) supersedes(r record) bool {
	seeds := strings.Fields(r.seeds)
	for _, seed := range seeds {
		if !strings.Contains(s.seeds, seed) {
			return false
		}
	}
	if s.state == removed || r.renewedAt.IsZero() {
		// Without a seed, it is not known where the record came from.
		return (s.state == removed || !s.renewedAt.IsZero()) && len(seeds) > 0
	}
	return s.renewedAt.After(r.renewedAt)
}

// lost reports whether Redis has lost its data since it had the snapshot.
func (s *Source) lost(ctx context.Context, held *snapshot) (bool, error) {
	if err := s.askEpoch(ctx); err != nil {
		return false, err
	}
	return s.knownEpoch() != held.epoch, nil
}

// askEpoch makes Redis' epoch known.
func (s *Source) askEpoch(ctx context.Context) error {
	epoch, err := s.store.database().Epoch(ctx)
	s.heard(err)
	if err == nil {
		s.store.epoch.Store(&epoch.ID)
	}
	return err
}

// knownEpoch returns Redis' epoch as last heard, empty if it was not yet.
func (s *Source) knownEpoch() string {
	if epoch := s.store.epoch.Load(); epoch != nil {
		return *epoch
	}
	return ""
}

// heard notes whether Redis answers, and logs when that changes. An error that
// Redis answers with is one of the portal's.
func (s *Source) heard(err error) {
	var failure *store.Error
	if errors.As(err, &failure) && !failure.OfRecord() && !errors.Is(err, context.Canceled) {
		s.fault.Store(s.now().UnixNano())
	}
	switch {
	case failure == nil:
		if s.away.Load() && s.away.CompareAndSwap(true, false) {
			s.log.Info("Redis answers again")
		}
	case failure.Answered(), errors.Is(err, context.Canceled): // by who asked
	case s.life.Err() == nil && s.away.CompareAndSwap(false, true):
		s.log.Error("Redis does not answer; portals that are known are served and renewed without it", zap.Error(err))
	}
}

// unusableTold is how often a record that cannot be used is read in vain for
// each time that this is logged: once a minute, if the portal is called.
const unusableTold = 12

// steady reports whether Redis has not failed for so long that replicas have
// stored there what they renewed meanwhile.
func (s *Source) steady() bool { return s.now().UnixNano()-s.fault.Load() > int64(steadyAfter) }

// noCredential turns what went wrong in reading the record into the error for
// the request. If the record is what is wrong, it is logged, and not read again
// for a while.
func (s *Source) noCredential(p *portal, err error) error {
	if errors.Is(err, ErrNotConnected) {
		return err
	}
	var failure *store.Error
	if errors.As(err, &failure) && !failure.Answered() {
		s.forget(p)
		return unavailable(p.id, 0, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := s.now(); !now.Before(p.unusable.until) {
		failures := p.unusable.failures
		if failures%unusableTold == 0 {
			s.log.Error("a portal's record cannot be used", zap.String("portal", p.id), zap.Error(err))
		}
		p.unusable = pause{until: now.Add(unknownTime), err: err, failures: failures + 1}
	}
	return unavailable(p.id, 0, err)
}

// forget takes a portal of which nothing is known out of the cache: while Redis
// is away, guesses must not displace those that are known.
func (s *Source) forget(p *portal) {
	s.portals.ComputeIfPresent(p.id, func(cached *portal) (*portal, otter.ComputeOp) {
		if cached == p && p.current.Load() == nil {
			return nil, otter.InvalidateOp
		}
		return cached, otter.CancelOp
	})
}
