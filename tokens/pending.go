package tokens

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"hubspot-auth-proxy/tokens/store"
)

// pending is the portals whose records, here and in Redis, are to be
// reconciled. They stay known until they are, even where the cache has dropped
// them.
type pending struct {
	mu      sync.Mutex
	entries map[string]*entry
	wake    chan struct{} // has one element when there may be something to do
}

// add adds a portal, and makes the next try begin at once.
func (p *pending) add(e *entry) {
	p.addQuietly(e)
	p.hurry()
}

func (p *pending) addQuietly(e *entry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.entries == nil {
		p.entries = make(map[string]*entry)
	}
	p.entries[e.id] = e
}

func (p *pending) hurry() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *pending) entry(id string) *entry {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.entries[id]
}

// all returns the entries.
func (p *pending) all() []*entry {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Values(p.entries))
}

// begin takes a portal out before it is reconciled, so that it can be added
// meanwhile, unless it is unsaved and must stay known.
func (p *pending) begin(e *entry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !e.unsaved.Load() {
		delete(p.entries, e.id)
	}
}

// unsaved counts the portals whose newest credential Redis does not have.
func (p *pending) unsaved() int {
	n := 0
	for _, e := range p.all() {
		if e.unsaved.Load() {
			n++
		}
	}
	return n
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

// saved notes that Redis has what is held, unless it was renewed meanwhile.
func (e *entry) saved(h *held) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.current.Load() == h {
		e.unsaved.Store(false)
	}
}
