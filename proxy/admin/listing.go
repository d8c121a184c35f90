package admin

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// listEvery is how long a listing is used: to make one, Redis has to look
	// at all its keys.
	listEvery = 15 * time.Second

	// listTime is how long that may take.
	listTime = 4 * time.Second
)

// A listing is which portals Redis has. It is safe for concurrent use.
type listing struct {
	portals Portals
	now     func() time.Time

	outdated atomic.Bool // a portal was connected since

	mu    sync.Mutex // held while Redis is asked, so that it is asked once
	asked time.Time
	first []string
	total int
}

// get returns the ids of the first portals, at most that many, and how many
// there are in all, those that were removed included. If Redis does not
// answer, it returns what it answered before.
func (l *listing) get(ctx context.Context, most int) (first []string, total int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.outdated.Swap(false) && l.now().Sub(l.asked) < listEvery {
		return l.first, l.total
	}
	// Broken off rather than timed out: that there are too many portals does
	// not mean that Redis is away. Whoever leaves does not make the next one
	// begin again.
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer time.AfterFunc(listTime, cancel).Stop()
	ids, err := l.portals.Portals(ctx)
	l.asked = l.now()
	if err == nil {
		// A copy, so that not all ids are kept.
		l.first, l.total = slices.Clone(ids[:min(most, len(ids))]), len(ids)
	}
	return l.first, l.total
}

// forget makes the next listing a new one.
func (l *listing) forget() { l.outdated.Store(true) }
