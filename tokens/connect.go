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
	// ErrChangedSince means that the portal was set, seeded, connected or removed after
	// the request to connect it was made.
	ErrChangedSince = errors.New("the portal was changed after the request to connect it was made")

	// ErrNotNamed means that the portal has a static credential, which a request that
	// names no portal does not replace.
	ErrNotNamed = errors.New("the portal has a static credential, and the request to connect it does not name the portal")

	// ErrConnected means that the portal has a valid grant or a record that cannot be
	// read, and that the request began at HubSpot.
	ErrConnected = errors.New("the portal is connected, and nobody here has asked to connect it again")

	// ErrWasRemoved means that the portal was removed, and that the request began at
	// HubSpot.
	ErrWasRemoved = errors.New("the portal was removed, and nobody here has asked to connect it again")

	// ErrNonceLost means that Redis has lost its data since the nonce was made, so it is
	// not known whether the nonce was used.
	ErrNonceLost = errors.New("the data in Redis was lost after the nonce was made")
)

// A ConnectRequest is a request to connect a portal.
type ConnectRequest struct {
	// Issued is the time at which the request was made. A record that was stored later
	// is not replaced, because it is a later decision.
	Issued time.Time

	// AnyPortal means that the request names no portal, and the person has chosen one.
	// Such a request does not replace a static credential.
	AnyPortal bool

	// Unasked means that the request began at HubSpot, not at an operator of this
	// program. Such a request connects only a portal that has no record or whose grant
	// has ended. Issued is ignored then.
	Unasked bool
}

// mayReplace returns nil if the request may replace the record. r is nil if there is no record.
func (q ConnectRequest) mayReplace(r *store.Record) error {
	if r == nil {
		return nil
	}
	static := r.State != Removed && (r.Kind == AccessToken || r.Kind == APIKey)
	switch {
	case !q.Unasked && since(r).After(q.Issued):
		return ErrChangedSince
	case q.Unasked && r.State == Removed:
		return ErrWasRemoved
	case static && (q.Unasked || q.AnyPortal):
		return ErrNotNamed
	case q.Unasked && r.State != Ended:
		return ErrConnected
	}
	return nil
}

// since returns the time at which the portal was set, seeded, connected or removed, or the
// zero time if that is not known. In records of earlier versions, the generation is that time
// unless the credential was renewed.
func since(r *store.Record) time.Time {
	if r.SetAt.IsZero() && (r.State == Removed || r.Kind != OAuth) && r.Generation > 0 {
		return time.UnixMicro(r.Generation)
	}
	return r.SetAt
}

// Connect stores the first tokens of a portal's grant. If the request may not replace the
// portal's record, the error is [ErrChangedSince], [ErrNotNamed], [ErrConnected] or
// [ErrWasRemoved]. actor is written to the log, and says who has made the change.
func (s *Source) Connect(ctx context.Context, portal string, token hubspot.Token, request ConnectRequest, actor string) error {
	var conflict error
	for range 5 {
		former, err := s.store.Load(ctx, portal)
		if IsRedisError(err) {
			return fmt.Errorf("portal %s: %w", portal, err)
		}
		missing := errors.Is(err, store.ErrNoRecord)
		judged := &former
		if missing {
			judged = s.record(portal) // not nil if Redis has lost this record
		}
		if err := request.mayReplace(judged); err != nil {
			return fmt.Errorf("portal %s: %w", portal, err)
		}
		// A record that is damaged or cannot be opened may be replaced too. mayReplace has then
		// decided by the fields that can be read.
		c := store.Change{Always: err != nil && !missing}
		if err == nil {
			c.Replaces = &former
		}
		c.Record = store.Record{
			Name: former.Name, Kind: OAuth, State: Active, Secret: token.Access, Refresh: token.Refresh,
			ExpiresAt: s.now().Add(token.ExpiresIn).Truncate(time.Millisecond), App: token.App, Scopes: token.Scopes,
		}
		conflict = s.put(ctx, portal, c, "portal was connected", actor)
		if !errors.Is(conflict, store.ErrConflict) {
			return conflict
		}
	}
	return fmt.Errorf("the record changes too fast to be replaced; connect the portal again: %w", conflict)
}

// Begin reads Redis' epoch, and begins one if Redis has none. From then on, [Source.Burn]
// refuses nonces that were issued before the epoch began.
func (s *Source) Begin(ctx context.Context) error {
	_, err := s.store.RefreshEpoch(ctx)
	return err
}

// Burn stores that a nonce was used, and reports whether this was the first use. issued is the
// time at which the nonce was made. Redis forgets the nonce after ttl. The error is
// [ErrNonceLost] if Redis has lost its data since issued, or an error for which [IsRedisError]
// returns true.
func (s *Source) Burn(ctx context.Context, nonce string, issued time.Time, ttl time.Duration) (first bool, err error) {
	first, err = s.store.Burn(ctx, nonce, ttl)
	if err != nil {
		return false, err
	}
	// The epoch is read after the nonce was stored. If Redis loses its data later, the next
	// epoch begins after the nonce was issued, and the nonce is refused.
	if _, err := s.store.RefreshEpoch(ctx); err != nil {
		return false, err
	}
	if s.store.LastEpoch().Began().After(issued) {
		return false, ErrNonceLost
	}
	return first, nil
}
