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

	"hubspot-auth-proxy/tokens/store"
)

// save stores a snapshot that Redis does not have, in the place of the record
// of generation expected, and returns what is current then. A newer record,
// and a tombstone, are left as they are.
func (s *Source) save(ctx context.Context, p *portal, snap *snapshot, expected int64) (*snapshot, error) {
	for range 3 {
		generation, err := s.store.write(ctx, p.id, change{record: snap.record, expected: expected})
		s.heard(err)
		if err == nil {
			r := snap.record
			r.generation = generation
			next := s.snapshot(p.id, r, generation, s.knownEpoch())
			if !p.replace(snap, next) {
				if current := p.current.Load(); current != nil {
					return current, nil // it came later
				}
			}
			return next, nil
		}
		var found *conflict
		if !errors.As(err, &found) {
			return nil, err
		}
		var outlived bool
		if expected, outlived, err = s.displace(ctx, p, snap); err != nil {
			return nil, err
		}
		if outlived {
			return s.read(ctx, p)
		}
	}
	return nil, errors.New("the record changes too fast to be stored")
}

// displace looks at what Redis has in the place of what it was to have. It
// returns the generation that the snapshot may replace, or that the snapshot
// is outlived.
func (s *Source) displace(ctx context.Context, p *portal, snap *snapshot) (expected int64, outlived bool, err error) {
	r, err := s.store.load(ctx, p.id)
	switch {
	case errors.Is(err, errNoRecord):
		lost, err := s.lost(ctx, snap)
		if err == nil && !lost {
			p.drop(snap)
			err = ErrNotConnected
		}
		if err == nil {
			s.trouble.Warn("Redis has lost its data; a portal is stored again", zap.String("portal", p.id))
		}
		return 0, false, err
	case err != nil:
		return 0, false, err
	}
	outlives, err := s.outlives(ctx, snap, r)
	return r.generation, !outlives, err
}

// unsaved is the portals whose newest record Redis does not have yet. They
// stay known until it has, even where the cache has dropped them.
type unsaved struct {
	mu      sync.Mutex
	portals map[string]*portal
	wake    chan struct{} // has one element when there may be something to do
}

func (u *unsaved) add(p *portal) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.portals == nil {
		u.portals = make(map[string]*portal)
	}
	u.portals[p.id] = p
	u.hurry()
}

// hurry makes the next try begin at once.
func (u *unsaved) hurry() {
	select {
	case u.wake <- struct{}{}:
	default:
	}
}

func (u *unsaved) portal(id string) *portal {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.portals[id]
}

// remove takes a portal out, unless it was renewed once more and is unsaved
// again.
func (u *unsaved) remove(p *portal) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if snap := p.current.Load(); snap == nil || snap.saved() {
		delete(u.portals, p.id)
	}
}

func (u *unsaved) all() []*portal {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Collect(maps.Values(u.portals))
}

// saveUnsaved stores what could not be stored, as soon as Redis takes it.
func (s *Source) saveUnsaved() {
	const first, most = 100 * time.Millisecond, 3 * time.Second
	wait := first
	for {
		var again <-chan time.Time
		if len(s.unsaved.all()) > 0 {
			again = time.After(jitter(wait/2, wait))
			wait = min(2*wait, most)
		} else {
			wait = first
		}
		select {
		case <-s.life.Done():
			return
		case <-s.unsaved.wake:
		case <-again:
		}
		_ = s.saveAll(s.life) // told when it failed first; tried until it works
	}
}

// saveLast stores what is unsaved, for nobody will after it: it tries until ctx
// ends, unless it is the record that is wrong.
func (s *Source) saveLast(ctx context.Context) error {
	for {
		err := s.saveAll(ctx)
		if failure := (*store.Error)(nil); !errors.As(err, &failure) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(jitter(100*time.Millisecond, 300*time.Millisecond)):
		}
	}
}

// saveAll tries to store each unsaved portal once, until Redis fails. A record
// that cannot be replaced does not keep the others from being stored.
func (s *Source) saveAll(ctx context.Context) error {
	var errs []error
	for _, p := range s.unsaved.all() {
		snap := p.current.Load()
		if snap != nil && !snap.saved() {
			_, err := s.save(ctx, p, snap, snap.stored)
			if err != nil && !errors.Is(err, ErrNotConnected) {
				errs = append(errs, fmt.Errorf("store portal %s, which was renewed: %w", p.id, err))
				if failure := (*store.Error)(nil); errors.As(err, &failure) && !failure.Answered() {
					break
				}
				continue
			}
			s.log.Info("a renewed portal is stored at last", zap.String("portal", p.id))
		}
		s.unsaved.remove(p)
	}
	return errors.Join(errs...)
}
