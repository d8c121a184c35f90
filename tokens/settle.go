package tokens

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"hubspot-auth-proxy/tokens/store"
)

// take takes in what Redis has of the portal, nil if it has nothing, and returns
// what the process holds then. The decision is save if Redis is to get that.
func (s *Source) take(e *entry, stored *store.Record) (*held, decision) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := reconcile(e.record(), stored)
	if now == adopt {
		if former := e.record(); former != nil && !former.Refresh.Equal(stored.Refresh) {
			e.pause = pause{} // which the former refresh token had caused
		}
		e.hold(s.held(e.id, *stored))
	}
	if now != save {
		e.unsaved.Store(false)
	}
	if stored != nil {
		e.unusable = pause{} // if it was, it has been mended
	}
	e.checkAfter(s.now(), checkEvery)
	h := e.current.Load()
	if h != nil {
		s.directory.note(e.id, h.Record, nil)
	}
	return h, now
}

// held makes what is held of a record.
func (s *Source) held(id string, r store.Record) *held {
	h := &held{Record: r}
	if r.State == Removed {
		return h
	}
	l := new(learned)
	if r.Kind != OAuth {
		l.judgement = &judgement{now: s.now, changed: func() { s.judged(id, l) }}
		l.judgement.set(r.RejectedAt)
	}
	h.credential = &Credential{
		Portal: id, Kind: r.Kind, Secret: r.Secret, Expiry: r.ExpiresAt, Generation: r.Generation,
		renewedAt: r.RenewedAt, renewedFor: r.RenewedFor, learned: l,
	}
	if r.Kind == OAuth && r.State == Active {
		h.renewAt = s.renewAt(r, s.now())
	}
	return h
}

// renewAt returns when to renew the record ahead of its end: by the time set,
// but at most by a quarter of its life, and a bit later in some replicas and
// portals than in others, so that they do not all ask at once.
func (s *Source) renewAt(r store.Record, now time.Time) time.Time {
	begin := r.RenewedAt
	if begin.IsZero() {
		begin = now
	}
	ahead := min(s.options.RefreshAhead, r.ExpiresAt.Sub(begin)/4)
	return r.ExpiresAt.Add(-jitter(ahead*4/5, ahead))
}

// reconcilePending reconciles what is pending, as soon as Redis takes it.
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
		case <-s.life.Done():
			return
		case <-s.pending.wake:
		case <-again:
		}
		_ = s.settleAll(s.life) // logged when it failed first; tried until it works
	}
}

// settleLast stores what is unsaved, because nobody will after it: it tries
// until ctx ends, unless a record is what is wrong.
func (s *Source) settleLast(ctx context.Context) error {
	for {
		for _, e := range s.pending.all() {
			s.pending.begin(e) // what is saved, others hold too
		}
		err := s.settleAll(ctx)
		if !IsRedisError(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(jitter(100*time.Millisecond, 300*time.Millisecond)):
		}
	}
}

// settlesAtOnce is how many portals are reconciled at the same time.
const settlesAtOnce = 8

// settleAll tries to reconcile each pending portal once, until Redis fails. A
// record that cannot be used does not keep the others from it.
func (s *Source) settleAll(ctx context.Context) error {
	var mu sync.Mutex
	var errs []error
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(settlesAtOnce)
	for _, e := range s.pending.all() {
		if ctx.Err() != nil {
			break
		}
		work.Go(func() error {
			err := s.settlePending(ctx, e)
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

// settlePending reconciles a pending portal, which stays pending if Redis fails,
// or if only this process has its newest credential.
func (s *Source) settlePending(ctx context.Context, e *entry) error {
	unsaved := e.unsaved.Load()
	s.pending.begin(e)
	err := s.settle(ctx, e)
	if err != nil {
		if unsaved || IsRedisError(err) {
			s.pending.addQuietly(e)
		}
		return fmt.Errorf("store portal %s: %w", e.id, err)
	}
	s.pending.begin(e)
	if unsaved && !e.unsaved.Load() {
		s.log.Info("a renewed portal is stored at last", zap.String("portal", e.id))
	}
	return nil
}

// settle reconciles what is held with what Redis has, and stores it if Redis is
// to get it. What is held keeps its numbers: writing a record back makes it no
// newer than it is.
func (s *Source) settle(ctx context.Context, e *entry) error {
	for range 3 { // it may be changed at the same moment
		hints := e.hints.Load()
		stored, err := s.load(ctx, e.id)
		if err != nil {
			return err
		}
		h, decision := s.take(e, stored)
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
				s.trouble.Warn("Redis has lost its data; a portal is stored again", zap.String("portal", e.id))
			}
			return nil
		}
		if changed := (*store.Conflict)(nil); !errors.As(err, &changed) {
			return err
		}
	}
	return errors.New("the record changes too fast to be stored")
}
