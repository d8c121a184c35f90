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

// A Seed is a portal's credential in the operator's settings.
type Seed struct {
	Portal string
	Name   string // for people; may be empty
	Kind   Kind

	// Secret is the access token or API key, or the refresh token for the kind OAuth.
	Secret secret.Text
}

// hash returns a hash of the kind and the secret. The secret cannot be found from the hash,
// because HubSpot's credentials are long and random.
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

// Seed stores a portal's credential, unless the same value was ever seeded for the portal before,
// and reports whether it was stored. So a restart changes nothing, a settings file that was rolled
// back does not bring an old value back, and a removed portal stays removed. A new value replaces
// the record. A record that cannot be read, for example because its key is missing, is not
// replaced, and Seed returns an error.
func (s *Source) Seed(ctx context.Context, seed Seed) (stored bool, err error) {
	r := seed.record()
	if err := checkPut(seed.Portal, r); err != nil {
		return false, err
	}
	former, err := s.store.Load(ctx, seed.Portal)
	if err == nil || errors.Is(err, store.ErrNoRecord) {
		_, err = s.store.Write(ctx, seed.Portal, store.Change{Record: r, Numbering: store.Seeding, Always: true, Seed: seed.hash()})
	}
	if _, known := errors.AsType[*store.Conflict](err); known {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("seed portal %s: %w", seed.Portal, err)
	}
	s.stored(seed.Portal, former, r)
	return true, s.changed(ctx, seed.Portal, "portal was set", seed.Kind, "seed")
}
