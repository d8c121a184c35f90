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

// RedisAnswers reports whether Redis answered as it should when it was last
// asked.
func (s *Source) RedisAnswers() bool { return s.store.Answers() }

// PollsRedis reports whether changes of other processes take effect within 10
// seconds rather than at once, because the Redis user may not subscribe.
func (s *Source) PollsRedis() bool { return s.store.Polls() }

// MissingRights returns the rules of ACL SETUSER that the Redis user lacks.
func (s *Source) MissingRights(ctx context.Context) ([]string, error) { return s.store.Missing(ctx) }

// Opening makes the source open what was sealed with other keys, too: keys that
// were given since the start. What it seals with stays the same.
func (s *Source) Opening(keys seal.Ring) { s.store.Opening(keys) }

// Set stores a portal's credential in the place of whatever there is. The
// actor is for the log, as with all that follow.
func (s *Source) Set(ctx context.Context, seed Seed, actor string) error {
	return s.put(ctx, seed.Portal, store.Change{Record: seed.record(), Always: true}, "portal was set", actor)
}

// Force is Set, for a record too that a newer version of the program has written.
func (s *Source) Force(ctx context.Context, seed Seed, actor string) error {
	return s.put(ctx, seed.Portal, store.Change{Record: seed.record(), Force: true}, "portal was set", actor)
}

// Remove deletes the portal's credential, for all replicas. What is left is a
// tombstone, so that neither a renewal under way nor a seed brings it back.
func (s *Source) Remove(ctx context.Context, portal, actor string) error {
	return s.put(ctx, portal, store.Change{Record: store.Record{State: Removed}, Always: true}, "portal was removed", actor)
}

// put replaces a portal's record by what does not follow from it. The error is
// a [*store.Conflict] if there is another record than the change expects.
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
	// This process holds the record from now on, so that a loss of Redis' data
	// does not undo the change.
	s.entry(portal)
	return s.changed(ctx, portal, what, r.Kind, actor)
}

// former returns the record that the change replaces, as far as it can be read. It is
// needed to report that the portal works again, and only for that.
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

// mustSeal refuses to store a secret as it is where the former one is sealed.
func (s *Source) mustSeal(ctx context.Context, portal string, r store.Record) error {
	if s.store.Keys().Seals() || r.State == Removed {
		return nil
	}
	_, err := s.store.Load(ctx, portal)
	var closed *seal.OpenError
	if errors.As(err, &closed) {
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

// changed makes a portal's change known in this process at once, without
// waiting for its hint, and logs who did it.
func (s *Source) changed(ctx context.Context, portal, what string, kind Kind, actor string) error {
	s.log.Info(what, zap.String("portal", portal), zap.String("kind", string(kind)), zap.String("actor", actor))
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

// Portals returns the ids of all portals that have a record, those that were
// removed too, in numerical order.
func (s *Source) Portals(ctx context.Context) ([]string, error) {
	return s.store.Portals(ctx)
}

// Show returns what may be known of a portal's record. The error is
// [ErrNotConnected] if there is none, or says that Redis does not answer.
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

// Reseal seals the portal's secrets with the key that seals now, and reports
// whether they were not. The error is [ErrNotConnected] if there is no record.
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
		if changed := (*store.Conflict)(nil); errors.As(err, &changed) {
			continue // it was renewed meanwhile, by a process that may not know the key
		}
		if err == nil {
			s.log.Info("portal was sealed anew", zap.String("portal", portal), zap.String("key", s.store.Keys().Current()), zap.String("actor", actor))
		}
		return err == nil, err
	}
	return false, fmt.Errorf("portal %s changes too fast to be sealed", portal)
}

// Epoch returns a value that changes when Redis has lost its data, as far as
// is known; empty if Redis was not asked yet.
func (s *Source) Epoch() string { return s.store.EpochID() }
