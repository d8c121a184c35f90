package tokens

import (
	"context"
	"time"
)

// SetLocal replaces the credential that Redis has not.
func (s *Source) SetLocal(to *Credential) { s.local.Store(to) }

// replaceLocal returns the credential that Redis has not, if it is another one by
// now than the rejected one.
func (s *Source) replaceLocal(ctx context.Context, rejected *Credential) (*Credential, error) {
	if local := s.local.Load(); !local.Secret.Equal(rejected.Secret) {
		return local, nil
	}
	now, last := s.now(), s.localRead.Load()
	if now.Sub(time.Unix(0, last)) >= rereadEvery && s.localRead.CompareAndSwap(last, now.UnixNano()) {
		s.readFiles(ctx, rejected.Portal)
	}
	if local := s.local.Load(); !local.Secret.Equal(rejected.Secret) {
		return local, nil
	}
	return nil, ErrNoOther
}

// readFiles lets the owner of the settings read the portal's file again.
func (s *Source) readFiles(ctx context.Context, portal string) {
	if s.options.Rejected != nil {
		s.options.Rejected(ctx, portal)
	}
}
