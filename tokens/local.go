package tokens

import (
	"context"
	"time"
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
	now, last := s.now(), s.localRead.Load()
	if now.Sub(time.Unix(0, last)) >= rereadEvery && s.localRead.CompareAndSwap(last, now.UnixNano()) {
		s.readFiles(ctx, rejected.Portal)
	}
	if local := s.local.Load(); !local.Secret.Equal(rejected.Secret) {
		return local, nil
	}
	return nil, ErrNoOther
}

// readFiles calls Options.Rejected, which may read the portal's file again.
func (s *Source) readFiles(ctx context.Context, portal string) {
	if s.options.Rejected != nil {
		s.options.Rejected(ctx, portal)
	}
}
