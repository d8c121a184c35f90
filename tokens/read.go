package tokens

import (
	"context"
	"errors"
	"strings"

	"go.uber.org/zap"
)

// read reads the portal's record and returns what is current then. The error
// is ErrNotConnected, or says that Redis does not answer or the record cannot
// be used.
func (s *Source) read(ctx context.Context, p *portal) (*snapshot, error) {
	before := p.current.Load()
	r, err := s.store.load(ctx, p.id)
	s.heard(err)
	switch {
	case errors.Is(err, errNoRecord):
		return s.missing(ctx, p, before)
	case err != nil:
		return nil, err
	}
	if before != nil && before == p.current.Load() {
		outlives, err := s.outlives(ctx, before, r)
		if err != nil {
			return nil, err
		}
		if outlives {
			return s.save(ctx, p, before, r.generation)
		}
	}
	next := s.snapshot(p.id, r, r.generation, s.knownEpoch())
	if current := p.adopt(next); current != next {
		return current, nil
	}
	if r.state == removed {
		s.log.Info("portal was removed", zap.String("portal", p.id))
	}
	return next, nil
}

// check reads the portal's record again, to find what its events did not tell.
func (s *Source) check(p *portal, snap *snapshot) {
	if _, err := s.read(s.life, p); err != nil && !errors.Is(err, ErrNotConnected) {
		snap.checkAfter(s.now(), checkSoon)
		s.noCredential(p.id, err)
	}
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
		// Somebody deleted the record by hand.
		p.drop(held)
	}
	s.unknown.Set(p.id, s.now().Add(unknownTime))
	s.portals.Invalidate(p.id)
	return nil, ErrNotConnected
}

// outlives reports whether what the process holds is to replace what Redis
// has: because Redis went back to an earlier state, as in a failover, or lost
// its data and was given once more the seed that held was renewed from.
func (s *Source) outlives(ctx context.Context, held *snapshot, r record) (bool, error) {
	if held.newer(r) {
		return true, nil
	}
	if held.renewedAt.IsZero() || !r.renewedAt.IsZero() || r.state == removed || !contains(held.seeds, r.seeds) {
		return false, nil
	}
	return s.lost(ctx, held)
}

// contains reports whether all seeds are among known ones. With none it is
// not known where the record came from.
func contains(known, seeds string) bool {
	hashes := strings.Fields(seeds)
	for _, hash := range hashes {
		if !strings.Contains(known, hash) {
			return false
		}
	}
	return len(hashes) > 0
}

// lost reports whether Redis has lost its data since it had the snapshot.
func (s *Source) lost(ctx context.Context, held *snapshot) (bool, error) {
	epoch, err := s.store.epoch(ctx)
	s.heard(err)
	if err != nil {
		return false, err
	}
	s.epoch.Store(&epoch)
	return epoch != held.epoch, nil
}

// knownEpoch returns Redis' epoch as last heard, empty if it was not yet.
func (s *Source) knownEpoch() string {
	if epoch := s.epoch.Load(); epoch != nil {
		return *epoch
	}
	return ""
}

// heard notes whether Redis answers, and logs when that changes.
func (s *Source) heard(err error) {
	var failure *redisError
	if errors.As(err, &failure) {
		if s.life.Err() == nil && s.away.CompareAndSwap(false, true) {
			s.log.Error("Redis does not answer; portals that are known are served and renewed without it", zap.Error(err))
		}
	} else if s.away.Load() && s.away.CompareAndSwap(true, false) {
		s.log.Info("Redis answers again")
	}
}

// noCredential turns what went wrong in reading the record into the error for
// the request, and logs it if Redis is not what is wrong.
func (s *Source) noCredential(portal string, err error) error {
	if errors.Is(err, ErrNotConnected) {
		return err
	}
	var failure *redisError
	if !errors.As(err, &failure) {
		s.log.Error("a portal's record cannot be used", zap.String("portal", portal), zap.Error(err))
	}
	return unavailable(portal, 0, err)
}
