package tokens

import (
	"context"
	"errors"
	"fmt"
	"time"

	"hubspot-auth-proxy/tokens/hubspot"
	"hubspot-auth-proxy/tokens/store"
)

var (
	// ErrChangedSince: the portal was set, seeded, connected or removed after
	// the request to connect it was made.
	ErrChangedSince = errors.New("the portal was changed after the request to connect it was made")

	// ErrNotNamed: the portal has a static credential, which a request for
	// any portal does not replace.
	ErrNotNamed = errors.New("the portal has a static credential, and the request to connect it does not name the portal")

	// ErrConnected: the portal has a grant that lives, or a record that cannot be
	// read, and nobody here has asked to connect it again.
	ErrConnected = errors.New("the portal is connected, and nobody here has asked to connect it again")

	// ErrWasRemoved: the portal was removed, and nobody here has asked to connect it
	// again.
	ErrWasRemoved = errors.New("the portal was removed, and nobody here has asked to connect it again")

	// ErrNonceLost: Redis has lost its data after the nonce was made, so that
	// nobody knows whether it was used.
	ErrNonceLost = errors.New("the data in Redis was lost after the nonce was made")
)

// A ConnectRequest is what a person was asked for who connects a portal.
type ConnectRequest struct {
	// Issued is when the request was made. What was stored later is not
	// replaced: somebody decided otherwise since.
	Issued time.Time

	// AnyPortal means that the request names no portal, so that the person
	// chose one. Static credentials are not replaced then.
	AnyPortal bool

	// Unasked means that the request began at HubSpot, and nobody here has asked for
	// it. It connects a portal that has no record or whose grant has ended, and no
	// other one. Issued does not count then.
	Unasked bool
}

// mayReplace returns nil if the request is good for replacing the record, which
// is the zero one where none is known.
func (q ConnectRequest) mayReplace(r store.Record, known bool) error {
	if q.Unasked && known {
		return mayReplaceUnasked(r)
	}
	switch {
	case q.Unasked:
		return nil
	case since(r).After(q.Issued):
		return ErrChangedSince
	case q.AnyPortal && r.State != Removed && (r.Kind == AccessToken || r.Kind == APIKey):
		return ErrNotNamed
	}
	return nil
}

// mayReplaceUnasked is mayReplace for a request that nobody here has made.
func mayReplaceUnasked(r store.Record) error {
	switch {
	case r.State == Removed:
		return ErrWasRemoved
	case r.Kind == AccessToken || r.Kind == APIKey:
		return ErrNotNamed
	case r.State == Ended:
		return nil
	}
	return ErrConnected
}

// since returns when the credential was set, seeded, connected or removed; zero
// if that is not known. Records of versions that did not note it tell it by
// their generation, unless that is the one of a renewal.
func since(r store.Record) time.Time {
	if r.SetAt.IsZero() && (r.State == Removed || r.Kind != OAuth) && r.Generation > 0 {
		return time.UnixMicro(r.Generation)
	}
	return r.SetAt
}

// Connect stores the first tokens of a portal's grant, in the place of what
// the request may replace: the error is [ErrChangedSince], [ErrNotNamed],
// [ErrConnected] or [ErrWasRemoved] where it may not.
func (s *Source) Connect(ctx context.Context, portal string, token hubspot.Token, request ConnectRequest, actor string) error {
	for range 5 {
		former, err := s.store.Load(ctx, portal)
		// A record that is damaged or does not open is replaced: what can be
		// read of it counts.
		c := store.Change{Always: err != nil && !errors.Is(err, store.ErrNoRecord)}
		if err == nil {
			c.Replaces = &former
		}
		if IsRedisError(err) {
			return fmt.Errorf("portal %s: %w", portal, err)
		}
		known := !errors.Is(err, store.ErrNoRecord)
		judged := former
		if h := s.holds(portal); !known && h != nil {
			judged, known = h.Record, true // which Redis has lost
		}
		if err := request.mayReplace(judged, known); err != nil {
			return fmt.Errorf("portal %s: %w", portal, err)
		}
		c.Record = store.Record{
			Name: former.Name, Kind: OAuth, State: Active, Secret: token.Access, Refresh: token.Refresh,
			ExpiresAt: s.now().Add(token.Life).Truncate(time.Millisecond), App: token.App, Scopes: token.Scopes,
		}
		err = s.put(ctx, portal, c, "portal was connected", actor)
		if changed := (*store.Conflict)(nil); !errors.As(err, &changed) {
			return err
		}
	}
	return fmt.Errorf("portal %s changes too fast to be connected", portal)
}

// holds returns what the process holds of the portal, nil if nothing.
func (s *Source) holds(portal string) *held {
	e, known := s.portals.GetIfPresent(portal)
	if !known {
		return nil
	}
	return e.current.Load()
}

// Begin learns Redis' epoch, and begins one if Redis is new: nonces that were
// issued before it are refused.
func (s *Source) Begin(ctx context.Context) error {
	_, err := s.store.RefreshEpoch(ctx)
	return err
}

// Burn notes that a nonce, which was issued at that time, was used, for as long
// as life, and reports whether it was not before. The error is [ErrNonceLost]
// if Redis cannot know that.
func (s *Source) Burn(ctx context.Context, nonce string, issued time.Time, life time.Duration) (first bool, err error) {
	first, err = s.store.Burn(ctx, nonce, life)
	if err != nil {
		return false, err
	}
	// Asked after it is noted: a loss that comes still later begins an epoch
	// that is younger than the nonce.
	if _, err := s.store.RefreshEpoch(ctx); err != nil {
		return false, err
	}
	if s.store.LastEpoch().Began().After(issued) {
		return false, ErrNonceLost
	}
	return first, nil
}
