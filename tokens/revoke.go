package tokens

import (
	"context"
	"errors"
	"fmt"

	"hubspot-auth-proxy/tokens/hubspot"
)

// ErrNotRevocable means that the portal has a static credential, which only a person can revoke in
// HubSpot.
var ErrNotRevocable = errors.New("HubSpot revokes the grants of OAuth apps only")

// Revoke revokes the portal's refresh token at HubSpot, and then removes the portal as
// [Source.Remove] does. If HubSpot does not revoke the token, the portal is not removed. Revoke
// holds the portal's lock, so that no renewal changes the refresh token meanwhile.
func (s *Source) Revoke(ctx context.Context, portal, actor string) error {
	if s.options.App == nil {
		return errNoApp
	}
	e := s.entry(portal)
	if _, err := s.read(ctx, e); err != nil {
		return fmt.Errorf("portal %s: %w", portal, err)
	}
	release, err := s.lock(ctx, e, false, func(h *held) bool { return h.State == Removed })
	if err != nil {
		return err
	}
	defer release()
	h, err := s.read(ctx, e)
	switch {
	case err != nil:
		return fmt.Errorf("portal %s: %w", portal, err)
	case h.State == Removed:
		return ErrNotConnected
	case h.Kind != OAuth:
		return ErrNotRevocable
	}
	if mismatch := s.mismatch(portal, h.Record); mismatch != nil {
		return mismatch
	}
	err = s.options.App.Revoke(ctx, h.Refresh)
	if refusal, is := errors.AsType[*hubspot.Error](err); is && refusal.Kind == hubspot.GrantEnded {
		err = nil // HubSpot does not know the token any more
	}
	if err != nil {
		return fmt.Errorf("revoke the grant of portal %s: %w", portal, err)
	}
	return s.Remove(ctx, portal, actor)
}
