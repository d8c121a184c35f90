package tokens

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"go.uber.org/zap"

	"hubspot-auth-proxy/tokens/secret"
)

// A Seed is a portal's credential as the operator's settings have it.
type Seed struct {
	Portal string
	Kind   Kind

	// Secret is the access token or API key; the refresh token, if the kind
	// is OAuth.
	Secret secret.Text
}

// hash tells values apart without telling them. They are too random to be
// found from it.
func (s Seed) hash() string {
	sum := sha256.Sum256([]byte(string(s.Kind) + "\x00" + s.Secret.Reveal()))
	return hex.EncodeToString(sum[:])
}

func (s Seed) record() record {
	r := record{kind: s.Kind, state: active}
	if s.Kind == OAuth {
		r.refresh = s.Secret
	} else {
		r.secret = s.Secret
	}
	return r
}

// Seed stores a portal's credential unless the same value was ever seeded for
// the portal, and reports whether it did: so a restart changes nothing, a value
// that was rolled back does not return, and a portal that was removed stays
// removed, but a new value replaces what is there.
func (s *Source) Seed(ctx context.Context, seed Seed) (stored bool, err error) {
	r := seed.record()
	if !ValidPortal(seed.Portal) {
		return false, fmt.Errorf("%q is not a portal id", seed.Portal)
	}
	if err := r.check(); err != nil {
		return false, fmt.Errorf("seed portal %s: %w", seed.Portal, err)
	}
	_, err = s.store.write(ctx, seed.Portal, change{record: r, replace: true, seed: seed.hash()})
	s.heard(err)
	if known := (*conflict)(nil); errors.As(err, &known) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("seed portal %s: %w", seed.Portal, err)
	}
	s.unknown.Invalidate(seed.Portal)
	s.log.Info("portal was set from the settings", zap.String("portal", seed.Portal), zap.String("kind", string(seed.Kind)))
	return true, nil
}

// Remove deletes the portal's credential, for all replicas. What is left is a
// tombstone, so that neither a renewal under way nor a seed brings it back.
func (s *Source) Remove(ctx context.Context, portal string) error {
	if !ValidPortal(portal) {
		return fmt.Errorf("%q is not a portal id", portal)
	}
	generation, err := s.store.write(ctx, portal, change{record: record{state: removed}, replace: true})
	s.heard(err)
	if err != nil {
		return fmt.Errorf("remove portal %s: %w", portal, err)
	}
	p := s.portal(portal)
	p.adopt(s.snapshot(portal, record{state: removed, generation: generation}, generation, s.knownEpoch()))
	s.log.Info("portal was removed", zap.String("portal", portal))
	return nil
}
