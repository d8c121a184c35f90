package tokens

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"hubspot-auth-proxy/tokens/store"
)

// reconcilePending reconciles pending portals, and repeats that while Redis fails, until the source
// is closed.
func (s *Source) reconcilePending() {
	const first, most = 100 * time.Millisecond, 3 * time.Second
	wait := first
	for {
		var again <-chan time.Time
		if len(s.pending.all()) > 0 {
			again = time.After(jitter(wait/2, wait))
			wait = min(2*wait, most)
		} else {
			wait = first
		}
		select {
		case <-s.service.Done():
			return
		case <-s.pending.wake:
		case <-again:
		}
		_ = s.syncAll(s.service) // the first failure was logged, and the pending portals are tried again
	}
}

// syncLast stores all unsaved portals when the source is closed. It tries until ctx ends, unless
// a record cannot be used.
func (s *Source) syncLast(ctx context.Context) error {
	var failed error
	for {
		for _, e := range s.pending.all() {
			s.pending.remove(e) // a saved record is also in Redis
		}
		err := s.syncAll(ctx)
		if unsaved := s.pending.unsaved(); err == nil && unsaved > 0 { // ctx has ended before the first try, or between two
			return fmt.Errorf("%d renewed portals are not stored in Redis: %w", unsaved, cmp.Or(failed, context.Cause(ctx)))
		}
		if !IsRedisError(err) {
			return err
		}
		failed = err
		select {
		case <-ctx.Done():
			return err
		case <-time.After(jitter(100*time.Millisecond, 300*time.Millisecond)):
		}
	}
}

// syncsAtOnce is the number of portals that are reconciled at the same time.
const syncsAtOnce = 8

// syncAll tries once to reconcile each pending portal, and stops when Redis fails. A record that
// cannot be used does not stop syncAll.
func (s *Source) syncAll(ctx context.Context) error {
	var mu sync.Mutex
	var errs []error
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(syncsAtOnce)
	for _, e := range s.pending.all() {
		if ctx.Err() != nil {
			break
		}
		work.Go(func() error {
			err := s.syncPending(ctx, e)
			if err != nil && IsRedisError(err) {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
			return nil
		})
	}
	if err := work.Wait(); err != nil {
		return err
	}
	return errors.Join(errs...)
}

// syncPending reconciles a pending portal. If that fails, the portal stays pending if Redis has
// failed or if only this process has the newest credential.
func (s *Source) syncPending(ctx context.Context, e *entry) error {
	unsaved := e.unsaved.Load()
	s.pending.remove(e)
	err := s.sync(ctx, e)
	if err != nil {
		if unsaved || IsRedisError(err) {
			s.pending.addQuietly(e)
		}
		return fmt.Errorf("store portal %s: %w", e.id, err)
	}
	s.pending.remove(e)
	if unsaved && !e.unsaved.Load() {
		s.log.Info("a renewed portal is now stored in Redis", zap.String("portal", e.id))
	}
	return nil
}

// sync reconciles the held record with the record in Redis, and writes the held record to Redis if
// Redis lacks it. The held record keeps its numbers, so it does not become newer.
func (s *Source) sync(ctx context.Context, e *entry) error {
	var err error
	for range 3 { // the record may be changed at the same time
		hints := e.hints.Load()
		stored, failure := s.load(ctx, e.id)
		if failure != nil {
			return failure
		}
		h, decision := s.merge(e, stored)
		e.followed.Store(hints)
		if decision != save {
			return nil
		}
		_, err = s.store.Write(ctx, e.id, store.Change{Record: h.Record, Numbering: store.Keep, Replaces: stored})
		if err == nil {
			e.saved(h)
			if stored != nil && stored.State == Ended {
				s.stored(e.id, *stored, h.Record)
			}
			if stored == nil {
				s.throttled.Warn("Redis has lost its data; a portal is stored again", zap.String("portal", e.id))
			}
			return nil
		}
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("other processes change the record at the same time: %w; if this repeats, portal show prints the record in Redis, and portal set replaces it", err)
}
