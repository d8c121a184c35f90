package tokens

import (
	"context"
	"errors"
	"fmt"

	"go.uber.org/zap"

	"hubspot-auth-proxy/tokens/hubspot"
	"hubspot-auth-proxy/tokens/seal"
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
// is a [*store.Conflict] if Redis has another record than the change expects.
func (s *Source) put(ctx context.Context, portal string, c store.Change, what, actor string) error {
	r := c.Record
	if err := checkPut(portal, r); err != nil {
		return err
	}
	former := s.former(ctx, portal, c)
	err := s.mustSeal(ctx, portal, r)
	if err == nil {
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

// former returns the record that the change replaces, or the zero Record if it cannot be read.
// The result is only used to report that the portal works again.
func (s *Source) former(ctx context.Context, portal string, c store.Change) store.Record {
	switch {
	case s.options.GrantChanged == nil || c.Record.State != Active:
		return store.Record{}
	case c.Replaces != nil:
		return *c.Replaces
	}
	r, _ := s.store.Load(ctx, portal)
	return r
}

// mustSeal returns an error if this process does not seal secrets and the portal's former
// secrets are sealed.
func (s *Source) mustSeal(ctx context.Context, portal string, r store.Record) error {
	if s.store.Keys().Seals() || r.State == Removed {
		return nil
	}
	_, err := s.store.Load(ctx, portal)
	if closed, is := errors.AsType[*seal.OpenError](err); is {
		return fmt.Errorf("its secrets are sealed, and ENCRYPTION_KEYS is not set here: set it as the proxies have it: %w", closed)
	}
	return nil
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
	return s.store.Portals(ctx)
}

// Show returns a portal's record without its secrets. The error is [ErrNotConnected] if there is
// no record, and otherwise one for which [IsRedisError] returns true.
func (s *Source) Show(ctx context.Context, portal string) (Portal, error) {
	r, err := s.store.Load(ctx, portal)
	switch {
	case errors.Is(err, store.ErrNoRecord):
		return Portal{}, ErrNotConnected
	case IsRedisError(err):
		return Portal{}, err
	default:
		return s.portalOf(portal, r, err), nil
	}
}

// Reseal seals the portal's secrets with the current key. It returns false if the secrets were
// already sealed with that key, and if the current key does not seal. The error is
// [ErrNotConnected] if there is no record. actor is written to the log.
func (s *Source) Reseal(ctx context.Context, portal, actor string) (resealed bool, err error) {
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
		if _, changed := errors.AsType[*store.Conflict](err); changed {
			continue // the portal was renewed meanwhile, by a process that may not know the key
		}
		if err == nil {
			s.log.Info("portal was sealed anew", zap.String("portal", portal), zap.String("key", s.store.Keys().Current()), zap.String("actor", actor))
		}
		return err == nil, err
	}
	return false, fmt.Errorf("portal %s changes too fast to be sealed", portal)
}

// Epoch returns the id of Redis' epoch, which changes when Redis has lost its data. It returns
// "" if the epoch was not read yet.
func (s *Source) Epoch() string { return s.store.EpochID() }
