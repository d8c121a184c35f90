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
)

// save stores a snapshot that Redis does not have, in the place of the record
// of generation expected, and returns what is current then. A newer record,
// and a tombstone, are left as they are.
func (s *Source) save(ctx context.Context, p *portal, snap *snapshot, expected int64) (*snapshot, error) {
	for range 3 {
		generation, err := s.store.write(ctx, p.id, change{record: snap.record, expected: expected})
		s.heard(err)
		var found *conflict
		switch {
		case err == nil:
			r := snap.record
			r.generation = generation
			return p.adopt(s.snapshot(p.id, r, generation, s.knownEpoch())), nil
		case !errors.As(err, &found):
			return nil, err
		case found.generation == 0:
			lost, err := s.lost(ctx, snap)
			if err != nil {
				return nil, err
			}
			if !lost {
				p.drop(snap)
				return nil, ErrNotConnected
			}
			s.log.Warn("Redis has lost its data; a portal is stored again", zap.String("portal", p.id))
			expected = 0
		case found.state != removed && found.generation < expected:
			expected = found.generation
		default:
			return s.read(ctx, p)
		}
	}
	return nil, errors.New("the record changes too fast to be stored")
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

func (u *unsaved) remove(p *portal) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.portals, p.id)
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

// saveAll tries to store each unsaved portal once, until Redis fails.
func (s *Source) saveAll(ctx context.Context) error {
	for _, p := range s.unsaved.all() {
		snap := p.current.Load()
		if snap != nil && !snap.saved() {
			_, err := s.save(ctx, p, snap, snap.stored)
			if err != nil && !errors.Is(err, ErrNotConnected) {
				return fmt.Errorf("store portal %s, which was renewed: %w", p.id, err)
			}
			s.log.Info("a renewed portal is stored at last", zap.String("portal", p.id))
		}
		s.unsaved.remove(p)
	}
	return nil
}
