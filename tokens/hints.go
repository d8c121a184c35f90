package tokens

import (
	"context"
	"time"

	"hubspot-auth-proxy/tokens/hubspot"
)

// hint makes a portal's record be read before it is used again. That is all
// that a message can do: what is stored, and what is answered, is never taken
// from one.
func (s *Source) hint(portal string) {
	if !hubspot.ValidPortal(portal) {
		return
	}
	e, known := s.portals.GetIfPresent(portal)
	if known {
		e.hints.Add(1)
	}
	// After the hint was counted: [Source.read] notes first that a portal is unknown,
	// and then whether there was a hint.
	s.unknown.Invalidate(portal)
	if known {
		s.check(e) // at once, so that hardly anybody waits for it
	} else {
		s.directory.mark(portal)
	}
}

// hintAll makes each record be read before it is used again, which is what is left
// where the Redis user may not subscribe.
func (s *Source) hintAll() {
	for e := range s.portals.Values() {
		e.hints.Add(1)
	}
	s.unknown.InvalidateAll()
}

// hintTime is how long a request waits for a record that is being read because
// of a hint. A Redis that does not answer in time must not keep known portals
// from being served.
const hintTime = 250 * time.Millisecond

// follow reads the portal's record as a hint demands, and returns when that is
// done or takes too long.
func (s *Source) follow(ctx context.Context, e *entry) {
	timeout := time.NewTimer(hintTime)
	defer timeout.Stop()
	select {
	case <-s.check(e):
	case <-timeout.C:
	case <-ctx.Done():
	}
}

// resync makes up for hints that were missed: all that this process holds is
// compared with what Redis has, tombstones too, until that is done. A record
// that is being read for the first time is read once more, because it may have
// changed in between.
func (s *Source) resync() {
	for e := range s.portals.Values() {
		if e.current.Load() != nil {
			s.pending.addQuietly(e)
		} else {
			e.hints.Add(1)
		}
	}
	s.unknown.InvalidateAll()
	s.pending.hurry()
}
