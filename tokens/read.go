package tokens

import (
	"context"
	"errors"

	"github.com/maypok86/otter/v2"
	"go.uber.org/zap"
	"golang.org/x/sync/singleflight"

	"hubspot-auth-proxy/tokens/store"
)

// read reads the portal's record and returns what is held then. It stores
// nothing: if Redis is to get what is held, that is left to [Source.settle]. The
// error is ErrNotConnected, or says that Redis does not answer or that the
// record cannot be used.
func (s *Source) read(ctx context.Context, e *entry) (*held, error) {
	for tries := 3; ; tries-- {
		hints := e.hints.Load()
		h, err := s.readOnce(ctx, e)
		if err != nil && !errors.Is(err, ErrNotConnected) {
			return nil, err
		}
		if err != nil {
			s.unknown.Set(e.id, s.now().Add(unknownTime))
		}
		e.followed.Store(hints)
		changed := e.hinted() // while it was read
		if changed {
			s.unknown.Invalidate(e.id)
		}
		if !changed || tries == 0 {
			if err != nil {
				s.forget(e)
			}
			return h, err
		}
	}
}

func (s *Source) readOnce(ctx context.Context, e *entry) (*held, error) {
	stored, err := s.load(ctx, e.id)
	if err != nil {
		return nil, err
	}
	former := e.current.Load()
	h, decision := s.take(e, stored)
	if decision == save {
		s.pending.add(e)
	}
	if h == nil {
		return nil, s.unknownPortal(ctx, e)
	}
	if h.State == Removed && former != nil && former.State != Removed {
		s.log.Info("portal was removed", zap.String("portal", e.id))
	}
	return h, nil
}

// load returns the portal's record, nil if Redis has none.
func (s *Source) load(ctx context.Context, portal string) (*store.Record, error) {
	r, err := s.store.Load(ctx, portal)
	switch {
	case errors.Is(err, store.ErrNoRecord):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return &r, nil
}

// unknownPortal returns the error for a portal that neither Redis nor this
// process has: it is not connected, or Redis has just lost its data, so that
// another process may be about to write it back.
func (s *Source) unknownPortal(ctx context.Context, e *entry) error {
	young, err := s.store.RefreshEpoch(ctx)
	if err != nil {
		return err
	}
	if young > 0 {
		s.forget(e)
		return unavailable(e.id, young, errLost)
	}
	return ErrNotConnected
}

// check reads the portal's record again, or joins the reading that is under
// way, and returns what ends when that does.
func (s *Source) check(e *entry) <-chan singleflight.Result {
	return s.flights.DoChan("read:"+e.id, func() (any, error) {
		if !s.begin() {
			return nil, errClosed
		}
		defer s.work.Done()
		hints := e.hints.Load()
		_, err := s.read(s.life, e)
		if err == nil || errors.Is(err, ErrNotConnected) {
			return nil, nil
		}
		// The portal is served as it is known, and read again a bit later.
		e.followed.Store(hints)
		e.checkAfter(s.now(), checkSoon)
		return nil, s.noCredential(e, err)
	})
}

// unusableLogged is how often a record that cannot be used is read in vain for
// each time that this is logged: once a minute, if the portal is called.
const unusableLogged = 12

// noCredential turns what went wrong in reading the record into the error for
// the request. If the record is what is wrong, that is logged, and the record
// is not read again for a while. Redis' own trouble makes no record unusable.
func (s *Source) noCredential(e *entry, err error) error {
	if errors.Is(err, ErrNotConnected) || errors.As(err, new(*UnavailableError)) {
		return err
	}
	if IsRedisError(err) {
		s.forget(e)
		return unavailable(e.id, 0, err)
	}
	s.directory.note(e.id, store.Record{}, err)
	e.mu.Lock()
	defer e.mu.Unlock()
	if now := s.now(); !now.Before(e.unusable.until) {
		failures := e.unusable.failures
		if failures%unusableLogged == 0 {
			s.log.Error("a portal's record cannot be used", zap.String("portal", e.id), zap.Error(err))
		}
		e.unusable = pause{until: now.Add(unknownTime), err: err, failures: failures + 1}
	}
	return unavailable(e.id, 0, err)
}

// forget takes a portal of which nothing is known out of the cache: guesses must
// not displace portals that are known.
func (s *Source) forget(e *entry) {
	s.portals.ComputeIfPresent(e.id, func(cached *entry) (*entry, otter.ComputeOp) {
		if cached == e && e.current.Load() == nil {
			return nil, otter.InvalidateOp
		}
		return cached, otter.CancelOp
	})
}
