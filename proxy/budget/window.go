package budget

import (
	"sync"
	"time"
)

// window is what a process knows of the calls of one portal, or of its searches.
type window struct {
	budget *Budget
	key    windowKey

	mu       sync.Mutex
	limit    int
	interval time.Duration
	learned  bool // limit and interval changed by HubSpot's headers since the last visit
	headers  seenHeaders

	uses uses

	stock      int           // turns that were taken in advance, and are left
	stockLow   int           // the stock at which more turns are taken
	stockFrom  int64         // when they were taken, by Redis' clock
	stockUntil time.Duration // when they are given back

	// The window in Redis, as of the last visit.
	visited   time.Duration // when that was
	far       bool          // far from the limit
	processes int           // how many processes visit the window
	used      int           // how many turns count
	spacing   time.Duration // between the turns of calls that wait

	doubtUntil time.Duration // until then the limit is near by HubSpot's headers, whatever far is
	outage     int64         // the number of Redis' outages after which uses were reported again
	alone      alone

	margin   time.Duration // how long a call is assumed to take until it arrives at HubSpot
	observed observation   // to be reported
	rejected time.Duration // the interval of the limit that a 429 named, to be reported

	queue    queue
	visiting bool          // run is working
	again    bool          // a visit is wanted, even if no call waits
	reserved int           // turns with a later time that calls of this process wait for
	lastTurn time.Duration // the latest of them, or the first that Redis could give
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
	from     int64        // when the turn counts, by Redis' clock; 0 means that its use is recorded already
	reserved *reservation // nil unless the turn was given for a later time
}

// credit is how many turns a process may use before it reports them.
func (w *window) credit() int { return max(1, w.limit/20) }

// farAsKnown reports whether the limit is far, as far as the process knows. A process
// that knows nothing assumes so, because HubSpot's headers soon show what others use.
// Answers to searches have no such headers.
func (w *window) farAsKnown(now time.Duration) bool {
	if w.key.search {
		return w.far && now-w.visited < defaultInterval
	}
	return w.far || now-w.visited > w.interval
}

// takeAtOnce returns a turn if the process has one, so that the call need not wait.
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
	case now < w.doubtUntil, w.rejected > 0:
		return Turn{}, false
	case w.stock > 0:
		w.stock--
		from = w.stockFrom
	case w.farAsKnown(now) && w.uses.unreported < w.credit():
	default:
		return Turn{}, false
	}
	w.uses.add(now, from, 1, w.interval)
	w.queue.countTurn(client, now, w.interval)
	if from != 0 && w.stock == w.stockLow || from == 0 && w.uses.unreported*2 >= w.credit() && !down {
		w.report()
	}
	return Turn{window: w}, true
}

// dropStock gives back turns that were taken in advance too long ago.
func (w *window) dropStock(now time.Duration) {
	if w.stock > 0 && now >= w.stockUntil {
		w.uses.giveBack(w.stockFrom, w.stock)
		w.stock = 0
	}
}

// forgettable reports whether a new window can replace this one.
func (w *window) forgettable(now time.Duration) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.uses.prune(now - w.interval)
	return len(w.uses.all) == 0 && w.queue.waiting == 0 && !w.visiting && w.reserved == 0 &&
		now-w.visited > max(w.interval, time.Minute)
}
