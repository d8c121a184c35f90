package tokens

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"hubspot-auth-proxy/tokens/secret"
	"hubspot-auth-proxy/tokens/store"
)

// A Seed is a portal's credential as the operator's settings have it.
type Seed struct {
	Portal string
	Name   string // for people; may be empty
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

func (s Seed) record() store.Record {
	r := store.Record{Name: s.Name, Kind: s.Kind, State: Active}
	if s.Kind == OAuth {
		r.Refresh = s.Secret
	} else {
		r.Secret = s.Secret
	}
	return r
}

// Seed stores a portal's credential unless the same value was ever seeded for
// the portal, and reports whether it did: so a restart changes nothing, a value
// that was rolled back does not return, and a portal that was removed stays
// removed, but a new value replaces what is there. What is there and cannot be
// read, as its key is missing, is not replaced: that is an error.
func (s *Source) Seed(ctx context.Context, seed Seed) (stored bool, err error) {
	r := seed.record()
	if err := checkPut(seed.Portal, r); err != nil {
		return false, err
	}
	former, err := s.store.Load(ctx, seed.Portal)
	if err == nil || errors.Is(err, store.ErrNoRecord) {
		_, err = s.store.Write(ctx, seed.Portal, store.Change{Record: r, Numbering: store.Seeding, Always: true, Seed: seed.hash()})
	}
	if known := (*store.Conflict)(nil); errors.As(err, &known) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("seed portal %s: %w", seed.Portal, err)
	}
	s.stored(seed.Portal, former, r)
	return true, s.changed(ctx, seed.Portal, "portal was set", seed.Kind, "seed")
}
