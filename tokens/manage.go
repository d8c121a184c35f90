package tokens

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"go.uber.org/zap"

	"hubspot-auth-proxy/tokens/hubspot"
	"hubspot-auth-proxy/tokens/seal"
	"hubspot-auth-proxy/tokens/secret"
	"hubspot-auth-proxy/tokens/store"
)

// RedisAnswers reports whether Redis answered the last command. It returns true before the
// first command.
func (s *Source) RedisAnswers() bool { return s.store.Answers() }

// PollsRedis reports whether changes of other processes take effect within 10 seconds instead
// of at once, because the Redis user has no right to subscribe.
func (s *Source) PollsRedis() bool { return s.store.Polls() }

// MissingRights returns the rules of ACL SETUSER that the Redis user lacks; see
// [store.Database.Missing].
func (s *Source) MissingRights(ctx context.Context) ([]string, error) { return s.store.Missing(ctx) }

// Opening makes the source also open secrets that were sealed with keys. The key that seals
// stays the same.
func (s *Source) Opening(keys seal.Ring) { s.store.Opening(keys) }

// Set stores a portal's credential and replaces the former record. If a newer version of the
// program has written the former record, Set returns a [*store.NewerError]. actor says in the log
// who has made the change.
func (s *Source) Set(ctx context.Context, seed Seed, actor string) error {
	return s.put(ctx, seed.Portal, store.Change{Record: seed.record(), Always: true}, "portal was set", actor)
}

// Force is like [Source.Set], and also replaces a record that a newer version of the program has
// written.
func (s *Source) Force(ctx context.Context, seed Seed, actor string) error {
	return s.put(ctx, seed.Portal, store.Change{Record: seed.record(), Force: true}, "portal was set", actor)
}

// Remove deletes the portal's credential, for all replicas. It leaves a tombstone, so that
// neither a renewal under way nor a seed brings the portal back.
func (s *Source) Remove(ctx context.Context, portal, actor string) error {
	return s.put(ctx, portal, store.Change{Record: store.Record{State: Removed}, Always: true}, "portal was removed", actor)
}

// ForceRemove is like [Source.Remove], and also removes a record that a newer version of the
// program has written.
func (s *Source) ForceRemove(ctx context.Context, portal, actor string) error {
	return s.put(ctx, portal, store.Change{Record: store.Record{State: Removed}, Force: true}, "portal was removed", actor)
}

// put stores a record that was set, connected or removed, and logs what has happened. The error
// is [store.ErrConflict] if Redis has another record than the change expects.
func (s *Source) put(ctx context.Context, portal string, c store.Change, what, actor string) error {
	r := c.Record
	if err := checkPut(portal, r); err != nil {
		return err
	}
	former, err := s.store.Load(ctx, portal)
	if sealed, is := errors.AsType[*seal.OpenError](err); is && r.State != Removed && !c.Force && !s.store.Keys().Seals() {
		return fmt.Errorf("portal %s: its secrets are sealed, and ENCRYPTION_KEYS is not set here: set it as the proxies have it: %w", portal, sealed)
	}
	if !IsRedisError(err) {
		c.Numbering = store.Set
		_, err = s.store.Write(ctx, portal, c)
	}
	if err != nil {
		return fmt.Errorf("portal %s: %w", portal, err)
	}
	s.stored(portal, former, r)
	// This process holds the record from now on, so that it writes the record back if Redis
	// loses its data.
	s.entry(portal)
	return s.changed(ctx, portal, what, r.Kind, actor)
}

func checkPut(portal string, r store.Record) error {
	if !hubspot.ValidPortal(portal) {
		return fmt.Errorf("%q is not a portal id", portal)
	}
	if err := r.Check(); err != nil {
		return fmt.Errorf("portal %s: %w", portal, err)
	}
	return nil
}

// changed logs a portal's change, and reads the record again at once, without waiting for the
// hint.
func (s *Source) changed(ctx context.Context, portal, what string, kind Kind, actor string) error {
	fields := []zap.Field{zap.String("portal", portal), zap.String("actor", actor)}
	if kind != "" { // a tombstone has none
		fields = append(fields, zap.String("kind", string(kind)))
	}
	s.log.Info(what, fields...)
	s.unknown.Invalidate(portal)
	e, known := s.portals.GetIfPresent(portal)
	if !known {
		return nil
	}
	if _, err := s.read(ctx, e); err != nil && !errors.Is(err, ErrNotConnected) {
		return fmt.Errorf("portal %s is stored, but cannot be read again: %w", portal, err)
	}
	return nil
}

// Portals returns the ids of all portals that have a record, including removed portals, in
// numerical order.
func (s *Source) Portals(ctx context.Context) ([]string, error) {
	var all []string
	err := s.store.Scan(ctx, func(ids []string) error {
		all = append(all, ids...)
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(all, byNumber)
	return slices.Compact(all), nil // Scan may find an id twice
}

// Reseal seals the portal's secrets with the current key. It returns false if the secrets were
// already sealed with that key, and if the current key does not seal. The error is
// [ErrNotConnected] if there is no record. actor is written to the log.
func (s *Source) Reseal(ctx context.Context, portal, actor string) (resealed bool, err error) {
	var conflict error
	for range 5 {
		r, err := s.store.Load(ctx, portal)
		switch {
		case errors.Is(err, store.ErrNoRecord):
			return false, ErrNotConnected
		case err != nil:
			return false, err
		case !r.Outdated || r.State == Removed || !s.store.Keys().Seals():
			return false, nil
		}
		_, err = s.store.Write(ctx, portal, store.Change{Record: r, Numbering: store.Keep, Replaces: &r})
		if conflict = err; errors.Is(err, store.ErrConflict) {
			continue // the portal was renewed meanwhile, by a process that may not know the key
		}
		if err == nil {
			s.log.Info("portal was sealed anew", zap.String("portal", portal), zap.String("key", s.store.Keys().Current()),
				zap.String("actor", actor))
		}
		return err == nil, err
	}
	return false, fmt.Errorf("portal %s changes too fast to be sealed; try again: %w", portal, conflict)
}

// Epoch returns the id of Redis' epoch, which changes when Redis has lost its data. It returns
// "" if the epoch was not read yet.
func (s *Source) Epoch() string { return s.store.LastEpoch().ID }

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
	if errors.Is(err, store.ErrConflict) {
		return false, nil // the value was seeded before
	}
	if err != nil {
		return false, fmt.Errorf("seed portal %s: %w", seed.Portal, err)
	}
	s.stored(seed.Portal, former, r)
	return true, s.changed(ctx, seed.Portal, "portal was set", seed.Kind, "seed")
}

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
