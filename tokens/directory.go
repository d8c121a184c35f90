package tokens

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"

	"hubspot-auth-proxy/tokens/hubspot"
	"hubspot-auth-proxy/tokens/store"
)

// Attention is the State of a [Query] for all portals that need attention.
const Attention State = "attention"

// A Query selects portals. The zero value selects all portals that are not removed, and
// returns none of them because Most is 0.
type Query struct {
	// Text is a part of the portal's id or name. Upper and lower case are the same.
	// Empty selects all portals.
	Text string

	// State is the state of the portal's record, or Attention. Empty selects all
	// portals that are not removed.
	State State

	// First is the number of selected portals to leave out at the beginning, and Most
	// the number to return at most.
	First, Most int
}

// Counts are the numbers of records in each state.
type Counts map[State]int

// All returns the number of portals that are not removed.
func (c Counts) All() int {
	all := 0
	for state, n := range c {
		if state != Removed {
			all += n
		}
	}
	return all
}

// A directory knows which portals have a record in Redis, and their states. It takes about 200
// bytes of memory for each portal. It is safe for concurrent use.
type directory struct {
	mu     sync.Mutex
	rows   map[string]*row
	list   []*row // the rows, by number if sorted is true
	sorted bool
	counts Counts
	oauth  int  // number of active portals whose tokens are renewed
	round  int  // number of the current round; begin and end are its limits
	whole  bool // whether all records were read at least once: a round has ended

	changed map[string]struct{} // portals whose records are to be read again
	wake    signal              // sent when changed gets an element
}

// A row is one portal as its record was last read.
type row struct {
	id, name string
	lower    string // the name in lower case, for searches
	kind     Kind
	state    State
	round    int // the last round in which the record existed
}

// maxChanged limits the number of hints that are kept, because anyone with the right to publish
// can send them. The next round finds changes whose hints are dropped.
const maxChanged = 10_000

func newDirectory() *directory {
	return &directory{rows: make(map[string]*row), counts: make(Counts), changed: make(map[string]struct{}), wake: newSignal()}
}

// update updates the row of a portal from its record. err is the error of reading the record.
func (d *directory) update(id string, r store.Record, err error) {
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
		d.list, d.sorted = append(d.list, known), false
	} else {
		d.count(known, -1)
	}
	known.round = d.round
	known.kind, known.state = r.Kind, stateOf(r, err)
	d.count(known, 1)
	if known.name != r.Name {
		known.name, known.lower = r.Name, strings.ToLower(r.Name)
	}
}

// updateLoaded updates the row of a portal. It ignores errors of Redis, which say nothing about
// the record.
func (d *directory) updateLoaded(l store.Loaded) {
	if IsRedisError(l.Err) || errors.Is(l.Err, store.ErrNoRecord) {
		return
	}
	d.update(l.Portal, l.Record, l.Err)
}

func (d *directory) count(r *row, n int) {
	if d.counts[r.state] += n; d.counts[r.state] == 0 {
		delete(d.counts, r.state)
	}
	if r.kind == OAuth && r.state == Active {
		d.oauth += n
	}
}

// mark marks a portal whose record is to be read again soon.
func (d *directory) mark(id string) {
	d.mu.Lock()
	if len(d.changed) < maxChanged {
		d.changed[id] = struct{}{}
	}
	d.mu.Unlock()
	d.wake.send()
}

// takeChanged returns marked portals, at most the number most, and unmarks them.
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

// begin begins a round. Portals that are not updated until the end of the round have lost
// their records.
func (d *directory) begin() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.round++
}

// end ends a round in which all records were read, and deletes the rows without a record.
func (d *directory) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.whole = true
	for id, r := range d.rows {
		if r.round < d.round {
			d.count(r, -1)
			delete(d.rows, id)
		}
	}
	d.list = slices.DeleteFunc(d.list, func(r *row) bool { return r.round < d.round })
}

// A finding is the result of a query in the directory.
type finding struct {
	ids            []string // portals that need attention first, then the others, both by number
	found          int      // number of selected portals in all
	needsAttention int      // number of portals that need attention, selected or not
	counts         Counts
	renews         bool // whether there is a portal whose tokens are renewed
	whole          bool // whether all records were read at least once
}

// find returns the portals that a query selects. needsAttention reports whether a portal whose
// record is active needs attention. only limits the search to portals for which it returns
// true; nil means no limit.
func (d *directory) find(q Query, needsAttention func(id string, kind Kind) bool, only func(id string) bool) finding {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.sorted {
		// A stable sort is several times faster here, because most rows are in order already.
		slices.SortStableFunc(d.list, func(a, b *row) int { return byNumber(a.id, b.id) })
		d.sorted = true
	}
	f := finding{counts: maps.Clone(d.counts), renews: d.oauth > 0, whole: d.whole}
	text := strings.ToLower(q.Text)
	// There are two passes, so that portals that need attention come first.
	for _, pass := range []bool{true, false} {
		for _, r := range d.list {
			bad := r.state != Removed && (r.state != Active || needsAttention(r.id, r.kind))
			if bad != pass {
				continue
			}
			if bad {
				f.needsAttention++
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

// has reports whether text, in lower case, is a part of the portal's id or name.
func (r *row) has(text string) bool {
	return text == "" || strings.Contains(r.id, text) || strings.Contains(r.lower, text)
}

// wants reports whether the query selects portals in this state. bad means that the portal
// needs attention.
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

// countAll returns the numbers of records in each state.
func (d *directory) countAll() Counts {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.counts)
}

func byNumber(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) }
