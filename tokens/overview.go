package tokens

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"hubspot-auth-proxy/tokens/store"
)

// An Overview is what this process knows of portals at one moment. It contains no secret.
type Overview struct {
	// Portals are those of the selected portals that the query's First and Most do not
	// leave out. Portals that need attention come first, then the others; both are in
	// the order of their numbers.
	Portals []Portal

	// Found is the number of all portals that the query selects.
	Found int

	// Counts are the numbers of records in each state, among the records that this
	// process has read from Redis. Whole means that all records were read at least once.
	Counts Counts
	Whole  bool

	// NeedAttention is the number of portals that need attention, selected or not.
	NeedAttention int

	// Cached means that Redis did not answer. Portals and Found then include only portals
	// whose records this process holds.
	Cached bool

	// App is the reason for which no portal can be renewed now. Empty means that no such
	// reason is known. This process does not call the token endpoint before AppRetry.
	App      string
	AppRetry time.Time
}

// Overview returns what is known of the portals that the query selects. It reads at most q.Most
// records from Redis.
func (s *Source) Overview(ctx context.Context, q Query) Overview {
	v := s.view()
	needAttention := v.needAttention()
	needsAttention := func(id string, kind Kind) bool { return needAttention[id] || kind == OAuth && s.options.App == nil }
	f := s.directory.find(q, needsAttention, nil)
	o := Overview{Found: f.found, Counts: f.counts, Whole: f.whole, NeedAttention: f.needsAttention}
	if s.options.App != nil && v.appErr != nil {
		o.App, o.AppRetry = v.appErr.Error(), v.appRetry
	} else if s.options.App == nil && f.renews { // without OAuth portals, no app is needed
		o.App = errNoApp.Error()
	}
	records, err := s.store.LoadAll(ctx, f.ids)
	if err != nil {
		f = s.directory.find(q, needsAttention, func(id string) bool { return v.known(id) != nil })
		o.Cached, o.Found = true, f.found
		records = v.recall(f.ids)
	}
	if local := s.local.Load(); local != nil && q.selects(local) {
		o.Portals = append(o.Portals, local.portal())
		o.Found++
	}
	for _, r := range records {
		if !o.Cached {
			s.directory.updateLoaded(r)
		}
		if status := v.status(r); !errors.Is(r.Err, store.ErrNoRecord) && (status.State != Removed || q.State == Removed) {
			o.Portals = append(o.Portals, status)
		}
	}
	slices.SortStableFunc(o.Portals, func(a, b Portal) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), byNumber(a.ID, b.ID))
	})
	return o
}

// portal returns what is known of a credential that has no record.
func (c *Credential) portal() Portal {
	p := Portal{ID: c.Portal, Kind: c.Kind, State: Active}
	p.reject(c.learned.rejection.since())
	return p
}

// countAll returns the numbers of records in Redis in each state. The local credential counts if
// HubSpot rejects it.
func (s *Source) countAll() Counts {
	counts := s.directory.countAll()
	if local := s.local.Load(); local != nil && local.portal().State == Rejected {
		counts[Rejected]++
	}
	return counts
}

// selects reports whether the result of the query includes the local credential.
func (q Query) selects(local *Credential) bool {
	p := local.portal()
	return q.First == 0 && q.wants(p.State, !p.Healthy()) && strings.Contains(local.Portal, strings.ToLower(q.Text))
}

// Portal returns what is known of one portal. The error is [ErrNotConnected] if there is no
// record. If Redis does not answer, Portal returns the portal as this process holds it, or
// Redis' error if the process does not hold the portal.
func (s *Source) Portal(ctx context.Context, id string) (Portal, error) {
	v := s.view()
	if local := s.local.Load(); local != nil && local.Portal == id {
		return local.portal(), nil
	}
	records, err := s.store.LoadAll(ctx, []string{id})
	if err != nil {
		records = v.recall([]string{id})
	}
	switch {
	case len(records) == 0:
		return Portal{}, err
	case errors.Is(records[0].Err, store.ErrNoRecord):
		return Portal{}, ErrNotConnected
	}
	return v.status(records[0]), nil
}

// rank returns 0 for a portal that needs attention, and otherwise 1.
func rank(p Portal) int {
	if p.Healthy() {
		return 1
	}
	return 0
}

// view is the source at one moment.
type view struct {
	*Source
	now time.Time

	// appErr is the reason for which HubSpot refuses or throttles the app, and appRetry the end of
	// the pause. After the pause, appErr stays set until a renewal succeeds or maxPause has passed.
	appErr   error
	appRetry time.Time
}

func (s *Source) view() view {
	v := view{Source: s, now: s.now()}
	v.appRetry, _, v.appErr = s.app.last()
	if !v.now.Before(v.appRetry.Add(maxPause)) {
		v.appErr = nil
	}
	return v
}

// known returns the portal's entry, or nil if the process has none. For the cache, the call does
// not count as a use of the entry.
func (v view) known(id string) *entry {
	if cached, known := v.portals.GetEntryQuietly(id); known {
		return cached.Value
	}
	return v.pending.entry(id)
}

// needAttention returns the portals whose records are active and which need attention, as far
// as this process knows.
func (v view) needAttention() map[string]bool {
	needAttention := make(map[string]bool)
	for e := range v.portals.Values() {
		h := e.current.Load()
		if h != nil && h.State == Active && !v.of(store.Loaded{Portal: e.id, Record: h.Record}, e, h).Healthy() {
			needAttention[e.id] = true
		}
	}
	return needAttention
}

// recall returns the records of the portals that the process holds.
func (v view) recall(ids []string) []store.Loaded {
	var all []store.Loaded
	for _, id := range ids {
		e := v.known(id)
		if e == nil {
			continue
		}
		r := store.Loaded{Portal: id}
		if h := e.current.Load(); h != nil {
			r.Record = h.Record
		} else if _, _, r.Err = e.unusable.last(); r.Err == nil {
			continue
		}
		all = append(all, r)
	}
	return all
}

// status returns what is known of the portal with the record that was read from Redis.
func (v view) status(r store.Loaded) Portal {
	e := v.known(r.Portal)
	if e == nil {
		return v.of(r, nil, nil)
	}
	h := e.current.Load()
	if h != nil && r.Err == nil && reconcile(&h.Record, &r.Record) == save {
		r.Record = h.Record // Redis has not stored this one yet
	}
	return v.of(r, e, h)
}

// of returns a Portal from a record and from what the process knows of the portal. e and h may
// be nil.
func (v view) of(r store.Loaded, e *entry, h *held) Portal {
	p := v.portalOf(r.Portal, r.Record, r.Err)
	if r.Err != nil {
		return p
	}
	p.Unsaved = e != nil && e.unsaved.Load()
	if p.Kind != OAuth || p.State != Active || p.Failure != "" {
		return p
	}
	due := r.Record.Expired(v.now) || h != nil && !h.renewAt.IsZero() && !v.now.Before(h.renewAt)
	switch {
	case v.options.App == nil:
		p.Failure = errNoApp.Error()
	case due && v.appErr != nil:
		p.Failure, p.Retry = v.appErr.Error(), v.appRetry
	case e != nil:
		until, _, err := e.pause.last()
		if err != nil && (due || v.now.Before(until)) { // not due: another replica has renewed the portal
			p.Failure, p.Retry = err.Error(), until
		}
	}
	return p
}

// portalOf returns the Portal of a record, or of the error of reading it.
func (s *Source) portalOf(id string, r store.Record, err error) Portal {
	if err != nil {
		_, newer := errors.AsType[*store.NewerError](err)
		return Portal{ID: id, Name: r.Name, Kind: r.Kind, State: Unusable, Newer: newer, Problem: err.Error()}
	}
	p := Portal{ID: id, Name: r.Name, Kind: r.Kind, State: r.State, Problem: r.EndedCode, Expires: r.ExpiresAt,
		Renewed: r.RenewedAt, App: r.App, Scopes: r.Scopes, Set: r.SetAt, Events: r.Events()}
	switch stateOf(r, nil) {
	case Ended:
		p.EndedAt, p.NextTry = r.EndedAt, s.ended(id, r).Next
	case Rejected:
		p.reject(r.RejectedAt)
	}
	if mismatch := s.mismatch(id, r); mismatch != nil {
		p.Failure = mismatch.Error()
	}
	return p
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
