package tokens

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"hubspot-auth-proxy/tokens/store"
)

// A decision is the result of the comparison of a portal's two records: the one that this process
// holds, and the one in Redis.
type decision int

const (
	keep  decision = iota // the records are the same, or there is none
	adopt                 // the record in Redis counts, and the process has to adopt it
	save                  // the held record counts, and Redis has to get it
)

// reconcile decides which of two records counts. nil means that there is no record. If Redis has
// no record, Redis has lost it; the portal was not removed, because a removal leaves a tombstone.
func reconcile(held, stored *store.Record) decision {
	switch {
	case held == nil && stored == nil:
		return keep
	case held == nil:
		return adopt
	case stored == nil:
		return save
	case stored.FirstSeed() && !held.Seeded(*stored):
		// The seed has a value that is new for the held record. It was stored after Redis
		// had lost the held record.
		return adopt
	case held.Newer(*stored):
		return save
	case stored.Newer(*held):
		return adopt
	default:
		return keep
	}
}

// merge reconciles the held record with the stored one. stored is nil if Redis has no record. merge
// returns the record that the process holds afterwards, or nil if it holds none. If the decision is
// save, that record has to be written to Redis.
func (s *Source) merge(e *entry, stored *store.Record) (*held, decision) {
	e.mu.Lock()
	defer e.mu.Unlock()
	former := e.record()
	decision := reconcile(former, stored)
	if decision == adopt {
		if former != nil && !former.Refresh.Equal(stored.Refresh) {
			e.pause.end() // the former refresh token had caused the pause
		}
		e.hold(s.held(e.id, *stored))
	}
	if decision != save {
		e.unsaved.Store(false)
	}
	if stored != nil {
		e.unusable.end()
	}
	e.checkAfter(s.now(), checkEvery)
	h := e.current.Load()
	if h != nil {
		s.directory.update(e.id, h.Record, nil)
	}
	return h, decision
}

// held returns r with the values that the process derives from it.
func (s *Source) held(id string, r store.Record) *held {
	h := &held{Record: r}
	if r.State == Removed {
		return h
	}
	l := new(learned)
	if r.Kind != OAuth {
		l.rejection = &rejection{now: s.now, changed: func() { s.rejectionChanged(id, l) }}
		l.rejection.set(r.RejectedAt)
	}
	h.credential = &Credential{
		Portal: id, Kind: r.Kind, Secret: r.Secret, Expiry: r.ExpiresAt, Generation: r.Generation,
		renewedAt: r.RenewedAt, renewedFor: r.RenewedFor, learned: l,
	}
	if r.Kind == OAuth && r.State == Active {
		h.renewAt = s.renewAt(r, s.now())
	}
	return h
}

// renewAt returns the time at which to renew the record. The time before the expiry is RefreshAhead,
// or a quarter of the token's life if that is less. A random part of up to a fifth is subtracted
// from it, so that replicas and portals do not renew at the same time.
func (s *Source) renewAt(r store.Record, now time.Time) time.Time {
	begin := r.RenewedAt
	if begin.IsZero() {
		begin = now
	}
	ahead := min(s.options.RefreshAhead, r.ExpiresAt.Sub(begin)/4)
	return r.ExpiresAt.Add(-jitter(ahead*4/5, ahead))
}

// load returns the portal's record, or nil if Redis has none.
func (s *Source) load(ctx context.Context, portal string) (*store.Record, error) {
	r, err := s.store.Load(ctx, portal)
	switch {
	case errors.Is(err, store.ErrNoRecord):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return &r, nil
}

// rejectionChanged stores the changed state of the portal's static credential for all replicas,
// and logs it. It does not wait for Redis.
func (s *Source) rejectionChanged(portal string, l *learned) {
	e, known := s.portals.GetIfPresent(portal)
	if !known {
		return
	}
	e.mu.Lock()
	h := e.current.Load()
	since := l.rejection.since()
	if h == nil || h.credential == nil || h.credential.learned != l || h.RejectedAt.Equal(since) {
		e.mu.Unlock()
		return // the portal has another credential or record now
	}
	next := *h
	next.RejectedAt, next.NotedAt = since, notedAt(h.Record, s.now())
	e.current.Store(&next)
	e.mu.Unlock()
	s.pending.add(e)
	if since.IsZero() {
		s.log.Info("HubSpot accepts a portal's credential again", zap.String("portal", portal))
		return
	}
	s.log.Error("HubSpot rejects a portal's credential: "+Portal{ID: portal, State: Rejected}.Remedy(),
		zap.String("portal", portal), zap.String("kind", string(h.Kind)), zap.Time("since", since))
}

// notedAt returns the next noted_at of the record: now, or a millisecond after the last one if
// that is later, because another process's clock may be ahead.
func notedAt(r store.Record, now time.Time) time.Time {
	now = now.Truncate(time.Millisecond)
	if next := r.NotedAt.Add(time.Millisecond); now.Before(next) {
		return next
	}
	return now
}
