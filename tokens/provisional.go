package tokens

import (
	"context"
	"errors"

	"hubspot-auth-proxy/tokens/store"
)

// errNotJoined means that the portal's credential is in Redis, which has not answered yet.
var errNotJoined = errors.New("no answer of Redis since the start")

// Provide makes the source use the static credentials among the seeds until [Source.Joined] is
// called, so that these portals need no Redis at the start. As soon as Redis answers, a portal's
// record wins over the seed, also if it is a tombstone.
func (s *Source) Provide(seeds []Seed) {
	credentials := make(map[string]*Credential)
	for _, seed := range seeds {
		if seed.Kind != OAuth && checkPut(seed.Portal, seed.record()) == nil {
			credentials[seed.Portal] = Static(seed.Portal, seed.Kind, seed.Secret)
		}
	}
	s.provisional.Store(&credentials)
}

// Joined ends [Source.Provide]. Call it when Redis has answered and the seeds are stored.
func (s *Source) Joined() { s.provisional.Store(nil) }

// provided returns the provisional credential of the portal, or nil if there is none, and whether
// the process still waits for Redis.
func (s *Source) provided(portal string) (own *Credential, waiting bool) {
	if credentials := s.provisional.Load(); credentials != nil {
		return (*credentials)[portal], true
	}
	return nil, false
}

// beforeJoined returns the portal's credential while the process waits for Redis. It does not
// wait for Redis itself.
func (s *Source) beforeJoined(ctx context.Context, portal string, own *Credential) (*Credential, error) {
	if !s.store.Answered() && s.record(portal) == nil {
		if own == nil {
			return nil, unavailable(portal, 0, errNotJoined)
		}
		return own, nil
	}
	credential, err := s.credential(ctx, portal)
	if own != nil && err != nil && !s.isTombstone(portal) {
		return own, nil
	}
	if errors.Is(err, ErrNotConnected) && !s.isTombstone(portal) {
		return nil, unavailable(portal, 0, errNotJoined) // its seed may not be applied yet
	}
	return credential, err
}

// record returns the record of the portal that the process holds, or nil if it holds none.
func (s *Source) record(portal string) *store.Record {
	e, known := s.portals.GetIfPresent(portal)
	if !known {
		return nil
	}
	return e.record()
}

// isTombstone reports whether the process knows that the portal was removed.
func (s *Source) isTombstone(portal string) bool {
	r := s.record(portal)
	return r != nil && r.State == Removed
}
