package tokens

import (
	"context"
	"errors"

	"github.com/maypok86/otter/v2"
	"go.uber.org/zap"
	"golang.org/x/sync/singleflight"

	"hubspot-auth-proxy/tokens/store"
)

// read reads the portal's record, and returns the record that the process holds afterwards. It
// writes nothing to Redis: if Redis lacks the held record, [Source.sync] writes it later. The
// error is ErrNotConnected, or means that Redis does not answer or that the record cannot be
// used.
func (s *Source) read(ctx context.Context, e *entry) (*held, error) {
	for tries := 3; ; tries-- {
		hints := e.hints.Load()
		h, err := s.readOnce(ctx, e)
		unknown := err == ErrNotConnected
		if err != nil && !unknown {
			return nil, err
		}
		if unknown {
			s.unknown.Set(e.id, s.now().Add(unknownTime))
		}
		e.followed.Store(hints)
		if e.hinted() { // during the read
			s.unknown.Invalidate(e.id)
			if tries > 0 {
				continue
			}
		}
		if unknown {
			s.forget(e)
		}
		return h, err
	}
}

func (s *Source) readOnce(ctx context.Context, e *entry) (*held, error) {
	stored, err := s.load(ctx, e.id)
	if err != nil {
		return nil, err
	}
	former := e.current.Load()
	h, decision := s.merge(e, stored)
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

// unknownPortal returns the error for a portal of which neither Redis nor this process has a
// record. The portal is not connected, unless Redis has just lost its data and another process
// may be about to write the record back.
func (s *Source) unknownPortal(ctx context.Context, e *entry) error {
	young, err := s.store.RefreshEpoch(ctx)
	if err != nil {
		return err
	}
	if young > 0 {
		s.forget(e)
		return unavailable(e.id, young, &EmptiedError{Ago: store.YoungTime - young})
	}
	return ErrNotConnected
}

// check reads the portal's record again in the background, or joins a read that is under way. The
// channel gets a value when the read has ended.
func (s *Source) check(e *entry) <-chan singleflight.Result {
	return s.flights.DoChan("read:"+e.id, func() (any, error) {
		if !s.begin() {
			return nil, errClosed
		}
		defer s.work.Done()
		hints := e.hints.Load()
		_, err := s.read(s.service, e)
		if err == nil || errors.Is(err, ErrNotConnected) {
			return nil, nil
		}
		// The held record stays in use, and is read again a little later.
		e.followed.Store(hints)
		e.checkAfter(s.now(), checkSoon)
		return nil, s.readError(e, err)
	})
}

// unusableLogged is the number of failed reads of an unusable record for each log line: one line
// a minute if the portal is called all the time.
const unusableLogged = 12

// readError returns the error for a request after the record could not be read. If the record
// itself is unusable, readError logs the error, and the record is not read again for unknownTime.
// An error of Redis does not make a record unusable.
func (s *Source) readError(e *entry, err error) error {
	if _, is := errors.AsType[*UnavailableError](err); is || errors.Is(err, ErrNotConnected) {
		return err
	}
	if IsRedisError(err) {
		s.forget(e)
		return unavailable(e.id, 0, err)
	}
	s.directory.update(e.id, store.Record{}, err)
	if failures, began := e.unusable.extendIfOver(e.id, s.now(), unknownTime, err); began && failures%unusableLogged == 0 {
		s.log.Error("a portal's record cannot be used", zap.String("portal", e.id), zap.Error(err))
	}
	return unavailable(e.id, 0, err)
}

// forget removes a portal without a record from the cache, so that requests for unknown portals do
// not displace known ones.
func (s *Source) forget(e *entry) {
	s.portals.ComputeIfPresent(e.id, func(cached *entry) (*entry, otter.ComputeOp) {
		if cached == e && e.current.Load() == nil {
			return nil, otter.InvalidateOp
		}
		return cached, otter.CancelOp
	})
}
