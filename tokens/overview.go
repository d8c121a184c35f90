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

// An Overview is what this process knows of portals at one moment. It holds no
// secret.
type Overview struct {
	// Portals are those that the query selects: first those that need attention,
	// then the others, each by their number.
	Portals []Portal

	// Found is how many the query selects in all.
	Found int

	// Counts are how many records Redis has in each state, as far as they were
	// read. Whole reports that all of them were read at least once.
	Counts Counts
	Whole  bool

	// Unwell is how many portals need attention, whether the query selects them
	// or not.
	Unwell int

	// Cached reports that Redis did not answer: Portals are those that this
	// process holds, as it holds them.
	Cached bool

	// App is why no portal can be renewed at present. Empty: they can, as far
	// as is known. Until AppRetry, HubSpot is not asked again.
	App      string
	AppRetry time.Time
}

// Overview returns what is known of the portals that the query selects. It reads
// their records, q.Most at most, and asks for nothing else.
func (s *Source) Overview(ctx context.Context, q Query) Overview {
	v := s.view()
	troubled := v.troubled()
	unwell := func(id string, kind Kind) bool { return troubled[id] || kind == OAuth && s.options.App == nil }
	f := s.directory.find(q, unwell, nil)
	o := Overview{Found: f.found, Counts: f.counts, Whole: f.whole, Unwell: f.unwell}
	if s.options.App != nil && v.appFails() {
		o.App, o.AppRetry = v.app.err.Error(), v.app.until
	}
	if s.options.App == nil && s.directory.renews() {
		o.App = errNoApp.Error() // which is nothing to those without any
	}
	records, err := s.store.LoadAll(ctx, f.ids)
	if err != nil {
		f = s.directory.find(q, unwell, func(id string) bool { return v.known(id) != nil })
		o.Cached, o.Found = true, f.found
		records = v.recall(f.ids)
	}
	if local := s.options.Local; local != nil && q.selects(local) {
		o.Portals = append(o.Portals, local.portal())
		o.Found++
	}
	for _, r := range records {
		if !o.Cached {
			s.directory.noteLoaded(r)
		}
		if status := v.status(r); !errors.Is(r.Err, store.ErrNoRecord) && (status.State != Removed || q.State == Removed) {
			o.Portals = append(o.Portals, status)
		}
	}
	slices.SortStableFunc(o.Portals, func(a, b Portal) int {
		return cmp.Or(byWellness(a, b), byNumber(a.ID, b.ID))
	})
	return o
}

// portal returns what is known of the process' own credential.
func (c *Credential) portal() Portal {
	p := Portal{ID: c.Portal, Kind: c.Kind, State: Active}
	p.reject(c.learned.judgement.since())
	return p
}

// countAll counts the records of Redis, and the process' own credential if HubSpot
// rejects it.
func (s *Source) countAll() Counts {
	counts := s.directory.countAll()
	if local := s.options.Local; local != nil && local.portal().State == Rejected {
		counts[Rejected]++
	}
	return counts
}

// selects reports whether the query's first portals include the process' own one.
func (q Query) selects(local *Credential) bool {
	p := local.portal()
	return q.First == 0 && q.wants(p.State, !p.Well()) && strings.Contains(local.Portal, strings.ToLower(q.Text))
}

// Portal returns what is known of one portal. The error is [ErrNotConnected] if
// there is no record of it. Without Redis, the portal is as this process holds
// it; if it holds none, the error says that Redis does not answer.
func (s *Source) Portal(ctx context.Context, id string) (Portal, error) {
	v := s.view()
	if local := s.options.Local; local != nil && local.Portal == id {
		return local.portal(), nil
	}
	records, err := s.store.LoadAll(ctx, []string{id})
	if err != nil {
		if records = v.recall([]string{id}); len(records) == 0 {
			return Portal{}, err
		}
	}
	if errors.Is(records[0].Err, store.ErrNoRecord) {
		return Portal{}, ErrNotConnected
	}
	return v.status(records[0]), nil
}

func byWellness(a, b Portal) int {
	switch {
	case a.Well() == b.Well():
		return 0
	case b.Well():
		return -1
	default:
		return 1
	}
}

func byNumber(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) }

// view is the source at one moment.
type view struct {
	*Source
	now time.Time
	app pause
}

func (s *Source) view() view {
	v := view{Source: s, now: s.now()}
	s.app.mu.Lock()
	defer s.app.mu.Unlock()
	v.app = s.app.pause
	return v
}

// appFails reports whether HubSpot refuses or throttles the app. When a pause
// is over, it does so until a renewal has come through, or none was tried for
// a while.
func (v view) appFails() bool {
	return v.app.err != nil && v.now.Before(v.app.until.Add(mostPause))
}

// known returns what the process knows about a portal, nil if it does not. It
// does not count as a use of the portal.
func (v view) known(id string) *entry {
	if cached, known := v.portals.GetEntryQuietly(id); known {
		return cached.Value
	}
	return v.pending.entry(id)
}

// troubled returns the portals that this process knows to need attention though
// their records are active.
func (v view) troubled() map[string]bool {
	troubled := make(map[string]bool)
	for e := range v.portals.Values() {
		h := e.current.Load()
		if h != nil && h.State == Active && !v.of(store.Loaded{Portal: e.id, Record: h.Record}, e, h).Well() {
			troubled[e.id] = true
		}
	}
	return troubled
}

// recall returns the portals as the process knows them.
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
		} else if r.Err = e.whyUnusable(); r.Err == nil {
			continue
		}
		all = append(all, r)
	}
	return all
}

// whyUnusable returns what was wrong with the record when it was last read.
func (e *entry) whyUnusable() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.unusable.err
}

// status returns what can be said about the portal with that record.
func (v view) status(r store.Loaded) Portal {
	e := v.known(r.Portal)
	if e == nil {
		return v.of(r, nil, nil)
	}
	h := e.current.Load()
	if h != nil && r.Err == nil && reconcile(&h.Record, &r.Record) == save {
		r.Record = h.Record // not stored yet
	}
	return v.of(r, e, h)
}

// of says what a record is about, and what the process knows about its portal,
// if it does.
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
	case due && v.appFails():
		p.Failure, p.Retry = v.app.err.Error(), v.app.until
	case e != nil:
		p.Failure, p.Retry = e.failure(v.now, due)
	}
	return p
}

// failure returns why the last renewal failed, unless one has succeeded since,
// if only in another replica: then the portal is not due any more.
func (e *entry) failure(now time.Time, due bool) (why string, retry time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.pause.err == nil || !due && !now.Before(e.pause.until) {
		return "", time.Time{}
	}
	return e.pause.err.Error(), e.pause.until
}
