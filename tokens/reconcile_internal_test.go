package tokens

import (
	"fmt"
	"testing"
	"time"

	"hubspot-auth-proxy/tokens/store"
)

// Of two records with the same numbers and state, the one with the later noted_at counts.
func TestTheRecordThatWasNotedLaterCounts(t *testing.T) {
	t.Parallel()
	at := time.UnixMilli(1_700_000_000_000)
	for _, state := range []State{Active, Ended} {
		early := store.Record{Grant: 5, Generation: 7, State: state, NotedAt: at}
		late, none := early, early
		late.NotedAt, none.NotedAt = at.Add(time.Millisecond), time.Time{}
		renewed := early
		renewed.Generation++
		renewed.State, renewed.NotedAt = Active, time.Time{}
		for _, c := range []struct {
			held, stored store.Record
			want         decision
		}{{early, late, adopt}, {late, early, save}, {none, early, adopt}, {early, none, save}, {early, early, keep}, {late, renewed, adopt}, {renewed, late, save}} {
			if got := reconcile(&c.held, &c.stored); got != c.want {
				t.Errorf("%s: held of %v, stored of %v: %d, want %d", state, c.held.NotedAt, c.stored.NotedAt, got, c.want)
			}
		}
	}
}

// TestTheNewerOfTwoRecordsCounts checks all pairs of records, including missing ones, with a few
// grants and generations and all states.
func TestTheNewerOfTwoRecordsCounts(t *testing.T) {
	t.Parallel()
	all := []*store.Record{nil}
	for _, grant := range []int64{0, 1, 5, 9} {
		for _, generation := range []int64{0, 1, 5, 7, 9, 11} {
			for _, state := range []State{Active, Ended, Removed} {
				for _, seeds := range []string{"", " a", " a b"} {
					all = append(all, &store.Record{Grant: grant, Generation: generation, State: state, Seeds: seeds})
				}
			}
		}
	}
	name := func(r *store.Record) string {
		if r == nil {
			return "none"
		}
		return fmt.Sprintf("grant %d, generation %d, %s, seeds %q", r.Grant, r.Generation, r.State, r.Seeds)
	}
	// order returns a number by which records are sorted from oldest to newest.
	order := func(r *store.Record) int64 {
		place := r.Grant*1000 + r.Generation*10
		if r.State == Ended {
			place++
		}
		return place
	}
	for _, held := range all {
		for _, stored := range all {
			if held != nil && stored != nil && held.Grant == stored.Grant && (held.State == Removed) != (stored.State == Removed) {
				continue // a tombstone has a grant number of its own
			}
			var want decision
			switch {
			case held == nil && stored == nil:
				want = keep
			case held == nil:
				want = adopt
			case stored == nil: // a loss, also of a tombstone
				want = save
			case stored.Grant == 1 && stored.Generation == 1 && len(stored.Seeds) > len(held.Seeds): // a new seed
				want = adopt
			case order(held) > order(stored):
				want = save
			case order(held) < order(stored):
				want = adopt
			}
			if got := reconcile(held, stored); got != want {
				t.Errorf("held: %s; stored: %s: %d, want %d", name(held), name(stored), got, want)
			}
		}
	}
}

// However many processes reconcile their records, and in whatever order, all of them and Redis end
// with the newest record.
func TestReconcilingConverges(t *testing.T) {
	t.Parallel()
	records := []*store.Record{
		{Grant: 5, Generation: 5, State: Active}, {Grant: 5, Generation: 7, State: Active}, {Grant: 5, Generation: 7, State: Ended},
		{Grant: 9, Generation: 9, State: Removed}, {Grant: 9, Generation: 8, State: Active}, {Grant: 1, Generation: 1, State: Active},
	}
	newest := func(of []*store.Record) *store.Record {
		var best *store.Record
		for _, r := range of {
			if best == nil || r != nil && r.Newer(*best) {
				best = r
			}
		}
		return best
	}
	for a := range records {
		for b := range records {
			for c := range append(records, nil) {
				held := []*store.Record{records[a], records[b]}
				var stored *store.Record
				if c < len(records) {
					stored = records[c]
				}
				want := newest([]*store.Record{held[0], held[1], stored})
				for range 3 {
					for i := range held {
						switch reconcile(held[i], stored) {
						case adopt:
							held[i] = stored
						case save:
							stored = held[i]
						}
					}
				}
				for _, r := range append(held, stored) {
					if *r != *want {
						t.Fatalf("%+v, want %+v", r, want)
					}
				}
			}
		}
	}
}
