package budget

import (
	"sync"
	"time"
)

// window is what a process knows of the calls of one portal, or of its searches.
// Times are since the budget was made.
type window struct {
	budget *Budget
	key    windowKey

	mu       sync.Mutex
	limit    int
	interval time.Duration
	learned  bool // from HubSpot's headers, since the last visit
	headers  seenHeaders

	uses uses

	stock      int   // turns taken in advance
	stockLow   int   // when so few are left, more are taken
	stockFrom  int64 // when they were taken, by Redis' clock
	stockUntil time.Duration
	far        bool // far from the limit, as of the last visit
	visited    time.Duration
	doubt      time.Duration // until then HubSpot's headers say that the limit is near
	processes  int           // that visit the window, as of the last visit
	used       int           // as of the last visit
	outage     int64         // the number of outages of Redis that the uses know of
	alone      alone

	margin   time.Duration // that a call may take to arrive at HubSpot
	observed observation
	rejected time.Duration // the interval of the limit that a 429 has named, to be reported

	queue    queue
	visiting bool
	again    bool          // visit once more
	reserved int           // turns of later than now
	lastTurn time.Duration // the latest of them, or the next that there may be
	spacing  time.Duration // between turns, as of the last visit
}

func newWindow(b *Budget, key windowKey) *window {
	w := &window{budget: b, key: key, limit: defaultLimit, interval: defaultInterval, processes: 1}
	if key.search {
		w.limit, w.interval = searchLimit, searchInterval
	}
	w.visited = -w.interval - 1 // never
	w.outage = b.outage.number.Load()
	return w
}

// policy returns HubSpot's name for the limit.
func (w *window) policy() string {
	if w.key.search {
		return PolicySecond
	}
	return PolicyBurst
}

// A Turn is one call's place within the limits. The zero value is the turn of a call
// that has no limits.
type Turn struct {
	// Waited is how long the call has waited for it.
	Waited time.Duration

	window   *window
	from     int64        // when the turn counts, by Redis' clock; 0 means that its use is noted already
	reserved *reservation // nil unless the turn was reserved ahead of its time
}

// credit is how many turns may be used without a visit.
func (w *window) credit() int { return max(1, w.limit/20) }

// farAsKnown reports whether the limit is far, as far as is known. A process that knows
// nothing may suppose so: headers soon say what the others use. Those of searches do not.
func (w *window) farAsKnown(now time.Duration) bool {
	if w.key.search {
		return w.far && now-w.visited < defaultInterval
	}
	return w.far || now-w.visited > w.interval
}

// takeAtOnce returns a turn if the call need not wait, for Redis or otherwise.
func (w *window) takeAtOnce(client string, now time.Duration) (Turn, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dropStock(now)
	from, down := int64(0), w.budget.outage.down.Load()
	switch {
	case w.queue.waiting > 0:
		return Turn{}, false
	case down && w.delayAlone(now) > 0:
		return Turn{}, false
	case down:
	case now < w.doubt, w.rejected > 0:
		return Turn{}, false
	case w.stock > 0:
		w.stock--
		from = w.stockFrom
	case w.farAsKnown(now) && w.uses.unreported < w.credit():
	default:
		return Turn{}, false
	}
	w.uses.add(now, from, 1, w.interval)
	w.queue.count(client, now, w.interval)
	if from != 0 && w.stock == w.stockLow || from == 0 && w.uses.unreported*2 >= w.credit() && !down {
		w.report()
	}
	return Turn{window: w}, true
}

// dropStock gives turns back that were taken too long ago.
func (w *window) dropStock(now time.Duration) {
	if w.stock > 0 && now >= w.stockUntil {
		w.uses.giveBack(w.stockFrom, w.stock)
		w.stock = 0
	}
}

// forgettable reports whether a new window would be as good.
func (w *window) forgettable(now time.Duration) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.uses.prune(now - w.interval)
	return len(w.uses.all) == 0 && w.queue.waiting == 0 && !w.visiting && w.reserved == 0 &&
		now-w.visited > max(w.interval, time.Minute)
}
