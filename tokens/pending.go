package tokens

import (
	"maps"
	"slices"
	"sync"
)

// A signal wakes the goroutine that receives it. If a signal is sent several times before the
// goroutine receives it, the goroutine receives it once.
type signal chan struct{}

func newSignal() signal { return make(signal, 1) }

func (s signal) send() {
	select {
	case s <- struct{}{}:
	default:
	}
}

// pending is the set of portals whose held records are to be reconciled with those in Redis. An
// entry stays in the set until that is done, even if the cache drops it. A pending is safe for
// concurrent use.
type pending struct {
	mu      sync.Mutex
	entries map[string]*entry
	wake    signal // sent if there may be something to do
}

// add adds a portal and makes the next try begin at once.
func (p *pending) add(e *entry) {
	p.addQuietly(e)
	p.wake.send()
}

func (p *pending) addQuietly(e *entry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.entries == nil {
		p.entries = make(map[string]*entry)
	}
	p.entries[e.id] = e
}

func (p *pending) entry(id string) *entry {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.entries[id]
}

func (p *pending) all() []*entry {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Values(p.entries))
}

// remove removes a portal before it is reconciled, so that it can be added again meanwhile. A
// portal that is unsaved stays in the set.
func (p *pending) remove(e *entry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !e.unsaved.Load() {
		delete(p.entries, e.id)
	}
}

// unsaved returns the number of portals whose newest credential Redis does not have.
func (p *pending) unsaved() int {
	n := 0
	for _, e := range p.all() {
		if e.unsaved.Load() {
			n++
		}
	}
	return n
}
