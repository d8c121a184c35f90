package tokens

import (
	"context"
	"time"

	"hubspot-auth-proxy/tokens/hubspot"
)

// hint makes the process read a portal's record before the record is used again. A message
// causes nothing else: no state and no credential is taken from a message.
func (s *Source) hint(portal string) {
	if !hubspot.ValidPortal(portal) {
		return
	}
	e, known := s.portals.GetIfPresent(portal)
	if known {
		e.hints.Add(1)
	}
	// The hint is counted before this call, because [Source.read] first stores that a portal
	// is unknown and then checks whether there was a hint.
	s.unknown.Invalidate(portal)
	if known {
		s.check(e) // at once, so that few requests wait for the read
	} else {
		s.directory.mark(portal)
	}
}

// hintAll makes the process read every record before it is used again. This replaces hints while
// the Redis user has no right to subscribe.
func (s *Source) hintAll() {
	for e := range s.portals.Values() {
		e.hints.Add(1)
	}
	s.unknown.InvalidateAll()
}

// hintTimeout is the longest time that a request waits for a record that is read because of a
// hint. After that, the request uses the record that the process holds.
const hintTimeout = 250 * time.Millisecond

// readHinted reads the portal's record because of a hint, and returns when the record was read,
// or after hintTimeout.
func (s *Source) readHinted(ctx context.Context, e *entry) {
	select {
	case <-s.check(e):
	case <-time.After(hintTimeout):
	case <-ctx.Done():
	}
}

// resync is called when hints may have been lost. In the background, it makes the process compare
// every record that it holds, including tombstones, with the record in Redis. The comparison of a
// record is repeated until it succeeds. If a record is just being read for the first time, resync
// makes the process read it once more, because the record may have changed during the read.
func (s *Source) resync() {
	for e := range s.portals.Values() {
		if e.current.Load() != nil {
			s.pending.addQuietly(e)
		} else {
			e.hints.Add(1)
		}
	}
	s.unknown.InvalidateAll()
	s.pending.wake.send()
}
