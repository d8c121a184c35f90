package tokens

import (
	"maps"
	"slices"
	"sync"
)

// pending is the portals whose records, here and in Redis, are to be
// reconciled. They stay known until they are, even where the cache has dropped
// them.
type pending struct {
	mu      sync.Mutex
	entries map[string]*entry
	wake    chan struct{} // has one element when there may be something to do
}

// add adds a portal, and makes the next try begin at once.
func (p *pending) add(e *entry) {
	p.addQuietly(e)
	p.hurry()
}

func (p *pending) addQuietly(e *entry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.entries == nil {
		p.entries = make(map[string]*entry)
	}
	p.entries[e.id] = e
}

func (p *pending) hurry() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *pending) entry(id string) *entry {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.entries[id]
}

// all returns the entries.
func (p *pending) all() []*entry {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Values(p.entries))
}

// begin takes a portal out before it is reconciled, so that it can be added
// meanwhile, unless it is unsaved and must stay known.
func (p *pending) begin(e *entry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !e.unsaved.Load() {
		delete(p.entries, e.id)
	}
}

// unsaved counts the portals whose newest credential Redis does not have.
func (p *pending) unsaved() int {
	n := 0
	for _, e := range p.all() {
		if e.unsaved.Load() {
			n++
		}
	}
	return n
}
