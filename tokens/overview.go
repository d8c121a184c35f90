package tokens

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"hubspot-auth-proxy/tokens/store"
)

// readsAtOnce is how many records are read at the same time for an overview. A
// pipeline would be one round trip, but a long one gets stuck in the embedded
// Redis, to which a connection has no buffer.
const readsAtOnce = 8

// An Overview is what this process can tell of portals at one moment. It holds
// no secret.
type Overview struct {
	// Portals are those that were asked for, without those that were removed
	// or have no record: first those that are not well, then the others, each
	// by their number.
	Portals []Portal

	// Unwell is how many portals this process knows not to be well, whether
	// or not they are among Portals.
	Unwell int

	// Cached tells that Redis did not answer: Portals are those that this
	// process knows, as it knows them.
	Cached bool

	// App is why no portal can be renewed at present. Empty: they can, as far
	// as is known. Until AppRetry, HubSpot is not asked again.
	App      string
	AppRetry time.Time
}

// Overview tells of the first portals of ids, but before them of those that
// this process knows not to be well. It reads at most that many records, and
// asks for nothing else.
func (s *Source) Overview(ctx context.Context, ids []string, most int) Overview {
	v := view{Source: s, now: s.now()}
	s.app.mu.Lock()
	v.app = s.app.pause
	s.app.mu.Unlock()
	unwell, others := v.cached()
	o := Overview{Unwell: len(unwell)}
	if s.options.App != nil && v.appFails() {
		o.App, o.AppRetry = v.app.err.Error(), v.app.until
	}

	records, err := s.loadAll(ctx, chosen(unwell, ids, most))
	if err != nil {
		o.Cached = true
		records = v.recall(chosen(unwell, others, most))
	}
	if local := s.options.Local; local != nil {
		o.Portals = append(o.Portals, Portal{ID: local.Portal, Kind: local.Kind, State: Active})
	}
	for _, r := range records {
		status := v.status(r)
		if !errors.Is(r.err, store.ErrNoRecord) && status.State != Removed {
			o.Portals = append(o.Portals, status)
		}
		if s.options.App == nil && status.Kind == OAuth && status.State == Active {
			o.App = errNoApp.Error() // which is nothing to those without any
		}
	}
	slices.SortStableFunc(o.Portals, func(a, b Portal) int {
		return cmp.Or(byWellness(a, b), byNumber(a.ID, b.ID))
	})
	return o
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

// chosen returns the first ids of both lists together, each once.
func chosen(first, second []string, most int) []string {
	ids := make([]string, 0, min(most, len(first)+len(second)))
	known := make(map[string]bool, cap(ids))
	for _, list := range [][]string{first, second} {
		for _, id := range list {
			if len(ids) == most {
				return ids
			}
			if !known[id] {
				known[id] = true
				ids = append(ids, id)
			}
		}
	}
	return ids
}

// loaded is a portal's record, or why there is none.
type loaded struct {
	id     string
	record store.Record
	err    error
}

// loadAll reads records, a few at a time. Its error means that Redis did not
// answer.
func (s *Source) loadAll(ctx context.Context, ids []string) ([]loaded, error) {
	all := make([]loaded, len(ids))
	reads, ctx := errgroup.WithContext(ctx)
	reads.SetLimit(readsAtOnce)
	for i, id := range ids {
		reads.Go(func() error {
			r, err := s.store.Load(ctx, id)
			all[i] = loaded{id: id, record: r, err: err}
			if failure := (*store.Error)(nil); errors.As(err, &failure) && !failure.Answered() {
				return failure // else something that is no record stands there
			}
			return nil
		})
	}
	return all, reads.Wait()
}

// view is the source at one moment.
type view struct {
	*Source
	now time.Time
	app pause
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

// cached returns the portals that the process knows: those that it knows not
// to be well, and the others, each by their number.
func (v view) cached() (unwell, others []string) {
	for e := range v.portals.Values() {
		h := e.current.Load()
		switch {
		case h == nil && e.isUnusable(v.now) == nil: // just being read
		case h == nil || h.State != Removed && !v.of(loaded{id: e.id, record: h.Record}, e, h).Well():
			unwell = append(unwell, e.id)
		default:
			others = append(others, e.id)
		}
	}
	slices.SortFunc(unwell, byNumber)
	slices.SortFunc(others, byNumber)
	return unwell, others
}

// recall returns the portals as the process knows them.
func (v view) recall(ids []string) []loaded {
	var all []loaded
	for _, id := range ids {
		e := v.known(id)
		if e == nil {
			continue
		}
		r := loaded{id: id}
		if h := e.current.Load(); h != nil {
			r.record = h.Record
		} else if r.err = e.whyUnusable(); r.err == nil {
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
func (v view) status(r loaded) Portal {
	e := v.known(r.id)
	if e == nil {
		return v.of(r, nil, nil)
	}
	h := e.current.Load()
	if h != nil && r.err == nil && reconcile(&h.Record, &r.record) == save {
		r.record = h.Record // not stored yet
	}
	return v.of(r, e, h)
}

// of says what a record is about, and what the process knows about its portal,
// if it does.
func (v view) of(r loaded, e *entry, h *held) Portal {
	p := portalOf(r.id, r.record, r.err)
	if r.err != nil {
		return p
	}
	p.Unsaved = e != nil && e.unsaved.Load()
	if p.Kind != OAuth || p.State != Active {
		return p
	}
	due := r.record.Expired(v.now) || h != nil && !h.renewAt.IsZero() && !v.now.Before(h.renewAt)
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
