package tokens

import (
	"context"
	"errors"
)

// SetLocal replaces the credential of Options.Local. to must not be nil, and must be a credential of
// the same portal.
func (s *Source) SetLocal(to *Credential) { s.local.Store(to) }

// replaceLocal returns the local credential if it differs from the rejected one, and otherwise
// ErrNoOther. If it does not differ, replaceLocal first reads the files of the settings again, at
// most once every rereadEvery.
func (s *Source) replaceLocal(ctx context.Context, rejected *Credential) (*Credential, error) {
	if local := s.local.Load(); !local.Secret.Equal(rejected.Secret) {
		return local, nil
	}
	if mayReread(&s.localRead, s.now()) {
		s.options.Rejected(ctx, rejected.Portal)
	}
	if local := s.local.Load(); !local.Secret.Equal(rejected.Secret) {
		return local, nil
	}
	return nil, ErrNoOther
}

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
