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
	Portals []Status

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

// A Status is a portal's record, and how renewing it goes in this process.
type Status struct {
	Portal

	// Failure says why the portal's token, which is due to be renewed, could
	// not be. Empty: it could, or is not due. Until Retry, it is not tried
	// again.
	Failure string
	Retry   time.Time

	// Unsaved tells that the portal was renewed, and that Redis could not
	// store that yet: only this process has its token.
	Unsaved bool
}

// Well reports whether there is nothing that an operator should do or know.
// That a token has expired is no illness: the next call renews it.
func (s Status) Well() bool {
	return s.State == string(active) && s.Failure == "" && !s.Unsaved
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

	records, err := s.store.loadAll(ctx, chosen(unwell, ids, most))
	s.heard(err)
	if err != nil {
		o.Cached = true
		records = v.recall(chosen(unwell, others, most))
	}
	if local := s.options.Local; local != nil {
		o.Portals = append(o.Portals, Status{Portal: Portal{ID: local.Portal, Kind: local.Kind, State: string(active)}})
	}
	for _, r := range records {
		status := v.status(r)
		if !errors.Is(r.err, errNoRecord) && status.State != string(removed) {
			o.Portals = append(o.Portals, status)
		}
		if s.options.App == nil && status.Kind == OAuth && status.State == string(active) {
			o.App = errNoApp.Error() // which is nothing to those without any
		}
	}
	slices.SortStableFunc(o.Portals, func(a, b Status) int {
		return cmp.Or(byWellness(a, b), byNumber(a.ID, b.ID))
	})
	return o
}

func byWellness(a, b Status) int {
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
	record record
	err    error
}

// loadAll reads records, a few at a time. Its error means that Redis did not
// answer.
func (s records) loadAll(ctx context.Context, ids []string) ([]loaded, error) {
	all := make([]loaded, len(ids))
	reads, ctx := errgroup.WithContext(ctx)
	reads.SetLimit(readsAtOnce)
	for i, id := range ids {
		reads.Go(func() error {
			r, err := s.load(ctx, id)
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

// known returns what the process knows of a portal, nil if it does not. It
// does not count as a use of the portal.
func (v view) known(id string) *portal {
	if entry, known := v.portals.GetEntryQuietly(id); known {
		return entry.Value
	}
	return v.unsaved.portal(id)
}

// cached returns the portals that the process knows: those that it knows not
// to be well, and the others, each by their number.
func (v view) cached() (unwell, others []string) {
	for p := range v.portals.Values() {
		snap := p.current.Load()
		switch {
		case snap == nil && p.isUnusable(v.now) == nil: // just being read, or gone
		case snap == nil || snap.state != removed && !v.of(loaded{id: p.id, record: snap.record}, p, snap).Well():
			unwell = append(unwell, p.id)
		default:
			others = append(others, p.id)
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
		p := v.known(id)
		if p == nil {
			continue
		}
		r := loaded{id: id}
		if snap := p.current.Load(); snap != nil {
			r.record = snap.record
		} else if r.err = p.whyUnusable(); r.err == nil {
			continue
		}
		all = append(all, r)
	}
	return all
}

// whyUnusable returns what was wrong with the record when it was last read.
func (p *portal) whyUnusable() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.unusable.err
}

// status returns what can be told of the portal with that record.
func (v view) status(r loaded) Status {
	p := v.known(r.id)
	if p == nil {
		return v.of(r, nil, nil)
	}
	snap := p.current.Load()
	if snap != nil && r.err == nil && snap.newer(r.record) {
		r.record = snap.record // not stored yet
	}
	return v.of(r, p, snap)
}

// of makes a status of a record, and of what the process knows of its portal,
// if it does.
func (v view) of(r loaded, p *portal, snap *snapshot) Status {
	portal := Portal{ID: r.id, Name: r.record.name, Kind: r.record.kind, State: string(r.record.state), Problem: r.record.endedCode,
		Expires: r.record.expiresAt, Renewed: r.record.renewedAt}
	if r.err != nil {
		portal.State, portal.Problem = "unusable", r.err.Error()
		return Status{Portal: portal}
	}
	status := Status{Portal: portal, Unsaved: snap != nil && !snap.saved()}
	if r.record.kind != OAuth || r.record.state != active {
		return status
	}
	due := r.record.expired(v.now) || snap != nil && !snap.renewAt.IsZero() && !v.now.Before(snap.renewAt)
	switch {
	case v.options.App == nil:
		status.Failure = errNoApp.Error()
	case due && v.appFails():
		status.Failure, status.Retry = v.app.err.Error(), v.app.until
	case p != nil:
		status.Failure, status.Retry = p.failure(v.now, due)
	}
	return status
}

// failure returns why the last renewal failed, unless one has succeeded since,
// if only in another replica: then the portal is not due any more.
func (p *portal) failure(now time.Time, due bool) (why string, retry time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pause.err == nil || !due && !now.Before(p.pause.until) {
		return "", time.Time{}
	}
	return p.pause.err.Error(), p.pause.until
}
