package tokens

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"hubspot-auth-proxy/tokens/hubspot"
	"hubspot-auth-proxy/tokens/store"
)

// listen takes in the hints of other replicas and of the commands.
func (s *Source) listen() {
	began := s.now()
	s.store.database().Follow(s.life, channelName, store.Follower{
		Connected: func(epoch store.Epoch) {
			s.heard(nil)
			s.store.epoch.Store(&epoch.ID)
			s.resync()
		},
		Message: s.hint,
		Failed: func(err error) {
			// A command that is done by then reports it better.
			if s.now().Sub(began) > quietTime {
				s.heard(err)
			}
		},
	})
}

// quietTime is how long after the start it is not logged that no messages
// arrive.
const quietTime = 2 * time.Second

// hint makes a portal's record be read before it is used again. That is all
// that a message can do: what is stored, and what is answered, is never taken
// from one.
func (s *Source) hint(portal string) {
	if !hubspot.ValidPortal(portal) {
		return
	}
	s.unknown.Invalidate(portal)
	if p, known := s.portals.GetIfPresent(portal); known {
		p.hints.Add(1)
		s.check(p) // at once, so that hardly anybody waits for it
	}
}

// hintTime is how long a request waits for a record that is being read because
// of a hint. A Redis that does not answer in time must not keep known portals
// from being served.
const hintTime = 250 * time.Millisecond

// follow reads the portal's record as a hint demands, and returns when that is
// done or it takes too long.
func (s *Source) follow(ctx context.Context, p *portal) {
	timeout := time.NewTimer(hintTime)
	defer timeout.Stop()
	select {
	case <-s.check(p):
	case <-timeout.C:
	case <-ctx.Done():
	}
}

// resync makes up for events that were missed: each portal is read again when
// it is next used, and all at once if Redis has lost its data, to store again
// what this process knows.
func (s *Source) resync() {
	s.unsaved.hurry()
	s.unknown.InvalidateAll()
	now := s.now()
	for p := range s.portals.Values() {
		if snap := p.current.Load(); snap != nil {
			snap.checkAt.Store(now.Add(jitter(0, checkSoon)).UnixNano())
		}
	}
	s.background(new(atomic.Bool), s.restore)
}

// restore asks for Redis' epoch until it is told, and stores what this process
// knows from another one: Redis has lost its data.
func (s *Source) restore() {
	for s.askEpoch(s.life) != nil {
		select {
		case <-s.closing:
			return
		case <-time.After(jitter(time.Second/2, time.Second)):
		}
	}
	for p := range s.portals.Values() {
		if snap := p.current.Load(); snap == nil || snap.epoch == s.knownEpoch() {
			continue
		}
		var failure *store.Error
		if _, err := s.read(s.life, p); errors.As(err, &failure) {
			return // and read again when Redis is back
		}
	}
}
