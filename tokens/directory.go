package tokens

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"

	"hubspot-auth-proxy/tokens/hubspot"
	"hubspot-auth-proxy/tokens/store"
)

// Attention is what a [Query] asks for to find the portals that need attention,
// whatever their state.
const Attention State = "attention"

// A Query selects portals. The zero value selects all that were not removed.
type Query struct {
	// Text is a part of the portal's id or name, in upper or lower case.
	Text string

	// State is that of the portal's record, or Attention. Removed finds those
	// that were removed.
	State State

	// First is how many of those that are found to leave out, and Most how many
	// to return then.
	First, Most int
}

// Counts are how many records there are in each state.
type Counts map[State]int

// All returns how many portals there are, without those that were removed.
func (c Counts) All() int {
	all := 0
	for state, n := range c {
		if state != Removed {
			all += n
		}
	}
	return all
}

// A directory is which portals have a record in Redis, and the state of each. It
// takes about 200 bytes of memory for a portal. It is safe for concurrent use.
type directory struct {
	mu     sync.Mutex
	rows   map[string]*row
	sorted []*row // by number; without those that were added since
	added  []*row
	counts Counts
	oauth  int  // how many are active and have tokens to renew
	round  int  // the number of the round that is under way
	whole  bool // a round has come to its end

	changed map[string]struct{} // portals whose records are to be read again
	wake    chan struct{}       // has one element when there are some
}

// A row is one portal. Its record may have changed since it was read.
type row struct {
	id, name string
	lower    string // the name, as it is searched
	kind     Kind
	state    State
	round    int // the last one in which the record was there
}

// maxChanged bounds how many hints are remembered: anybody who may publish can
// send them. What is not remembered, the next round finds.
const maxChanged = 10_000

func newDirectory() *directory {
	return &directory{rows: make(map[string]*row), counts: make(Counts), changed: make(map[string]struct{}), wake: make(chan struct{}, 1)}
}

// note takes in a portal's record, or what is wrong with it.
func (d *directory) note(id string, r store.Record, err error) {
	if !hubspot.ValidPortal(id) {
		return // no request can name it
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.changed, id)
	known := d.rows[id]
	if known == nil {
		known = &row{id: id}
		d.rows[id] = known
		d.added = append(d.added, known)
	} else {
		d.count(known, -1)
	}
	known.round = d.round
	known.kind, known.state = constant(r.Kind), constant(stateOf(r, err))
	d.count(known, 1)
	if known.name != r.Name {
		known.name = strings.Clone(r.Name) // else all of Redis' answer is kept
		known.lower = strings.ToLower(known.name)
	}
}

// noteLoaded takes in what was read of a portal. That Redis refuses to give a
// record says nothing about the record.
func (d *directory) noteLoaded(l store.Loaded) {
	if failure := (*store.Error)(nil); errors.As(l.Err, &failure) && !failure.OfRecord() || errors.Is(l.Err, store.ErrNoRecord) {
		return
	}
	d.note(l.Portal, l.Record, l.Err)
}

// constant returns the constant that equals a text of Redis', so that the answer
// that it is a part of is not kept.
func constant[T Kind | State](text T) T {
	for _, known := range []T{"oauth", "access_token", "api_key", "active", "ended", "removed", "unusable", "rejected"} {
		if text == known {
			return known
		}
	}
	return T(strings.Clone(string(text)))
}

func (d *directory) count(r *row, n int) {
	if d.counts[r.state] += n; d.counts[r.state] == 0 {
		delete(d.counts, r.state)
	}
	if r.kind == OAuth && r.state == Active {
		d.oauth += n
	}
}

// mark makes a portal's record be read soon.
func (d *directory) mark(id string) {
	d.mu.Lock()
	if len(d.changed) < maxChanged {
		d.changed[id] = struct{}{}
	}
	d.mu.Unlock()
	d.hurry()
}

// hurry makes the changed records be read.
func (d *directory) hurry() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// takeChanged returns marked portals, at most that many.
func (d *directory) takeChanged(most int) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	ids := make([]string, 0, min(most, len(d.changed)))
	for id := range d.changed {
		if len(ids) == most {
			break
		}
		ids = append(ids, id)
		delete(d.changed, id)
	}
	return ids
}

// begin begins a round. The rows that are not noted until its end have no record
// any more.
func (d *directory) begin() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.round++
}

// end ends a round in which all records were read.
func (d *directory) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.whole = true
	lost := false
	for id, r := range d.rows {
		if r.round < d.round {
			lost = true
			d.count(r, -1)
			delete(d.rows, id)
		}
	}
	d.sort()
	if lost {
		d.sorted = slices.DeleteFunc(d.sorted, func(r *row) bool { return r.round < d.round })
	}
}

// sort sorts what was added. d.mu is locked.
func (d *directory) sort() {
	if len(d.added) == 0 {
		return
	}
	compare := func(a, b *row) int { return byNumber(a.id, b.id) }
	slices.SortFunc(d.added, compare)
	merged := make([]*row, 0, len(d.sorted)+len(d.added))
	for a, b := d.sorted, d.added; len(a)+len(b) > 0; {
		if len(b) == 0 || len(a) > 0 && compare(a[0], b[0]) <= 0 {
			merged, a = append(merged, a[0]), a[1:]
		} else {
			merged, b = append(merged, b[0]), b[1:]
		}
	}
	d.sorted, d.added = merged, nil
}

// A finding is what a query has found in the directory.
type finding struct {
	ids    []string // those that need attention first, then the others, each by number
	found  int      // how many there are in all
	unwell int      // how many portals need attention, found or not
	counts Counts
	whole  bool // all records were read at least once
}

// renews reports whether there is a portal whose tokens are to be renewed.
func (d *directory) renews() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.oauth > 0
}

// find returns what a query selects. Of a portal whose record is active, unwell
// reports whether it needs attention all the same; only reports whether a portal
// may be found at all, and nil means that each may.
func (d *directory) find(q Query, unwell func(id string, kind Kind) bool, only func(id string) bool) finding {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sort()
	f := finding{counts: maps.Clone(d.counts), whole: d.whole}
	text := strings.ToLower(q.Text)
	// Two passes, so that those that need attention come first.
	for _, pass := range []bool{true, false} {
		for _, r := range d.sorted {
			bad := r.state != Removed && (r.state != Active || unwell(r.id, r.kind))
			if bad != pass {
				continue
			}
			if bad {
				f.unwell++
			}
			if q.wants(r.state, bad) && r.has(text) && (only == nil || only(r.id)) {
				if f.found >= q.First && f.found < q.First+q.Most {
					f.ids = append(f.ids, r.id)
				}
				f.found++
			}
		}
	}
	return f
}

// has reports whether the text, in lower case, is a part of the id or the name.
func (r *row) has(text string) bool {
	return text == "" || strings.Contains(r.id, text) || strings.Contains(r.lower, text)
}

// wants reports whether the query asks for portals in that state.
func (q Query) wants(state State, bad bool) bool {
	switch q.State {
	case "":
		return state != Removed
	case Attention:
		return bad
	default:
		return state == q.State
	}
}

// countAll returns how many records there are in each state.
func (d *directory) countAll() Counts {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.counts)
}
