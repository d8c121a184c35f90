package budget

import (
	"sync"
	"time"
)

// The limits that a process assumes until HubSpot's headers name others. HubSpot sends
// no such headers with answers to searches.
const (
	defaultLimit    = 100
	defaultInterval = 10 * time.Second
	searchLimit     = 5
	searchInterval  = time.Second
)

type windowKey struct {
	portal string
	search bool
}

// inRedis returns the window's key in Redis.
func (k windowKey) inRedis(prefix string) string {
	key := prefix + "budget:{" + k.portal + "}"
	if k.search {
		key += ":search"
	}
	return key
}

// window is what a process knows of the calls of one portal, or of its searches.
type window struct {
	process *process
	key     windowKey

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

	doubtUntil time.Duration // until then the limit is near, as HubSpot has answered, whatever far says
	outage     int64         // process.outages at the last visit; after another outage uses are reported again
	alone      alone

	margin   time.Duration // how long a call is assumed to take until it arrives at HubSpot
	observed observation   // to be reported
	rejected time.Duration // the interval of the limit that a 429 named, to be reported

	queue    queue
	visiting bool          // run is working
	again    bool          // a visit is wanted, even if no call waits
	reserved int           // turns with a later time that calls of this process wait for
	lastTurn time.Duration // the latest of these turns, or the time from which Redis could give one
}

func newWindow(p *process, key windowKey) *window {
	w := &window{process: p, key: key, limit: defaultLimit, interval: defaultInterval, processes: 1}
	if key.search {
		w.limit, w.interval = searchLimit, searchInterval
	}
	w.visited = -w.interval - 1 // never
	w.outage = p.outages.Load()
	return w
}

// minMargin is the shortest time that calls are assumed to take until they arrive at
// HubSpot. On a busy machine many take more than the 25 ms that would be a fortieth of
// the interval of searches.
func (w *window) minMargin() time.Duration { return max(w.interval/40, 50*time.Millisecond) }

// credit is how many turns a process may use before it reports them.
func (w *window) credit() int { return max(1, w.limit/20) }

// farAsKnown reports whether the process may assume that the limit is far. A process that
// has not visited the window for an interval assumes so, because HubSpot's headers soon
// show what others use. For searches it does not, because their answers have no such
// headers.
func (w *window) farAsKnown(now time.Duration) bool {
	if w.key.search {
		return w.far && now-w.visited < defaultInterval
	}
	return w.far || now-w.visited > w.interval
}

// dropStock gives back turns that were taken in advance too long ago.
func (w *window) dropStock(now time.Duration) {
	if now >= w.stockUntil {
		w.giveBackStock()
	}
}

// giveBackStock gives back the turns that were taken in advance.
func (w *window) giveBackStock() {
	if w.stock > 0 {
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

// alone is the state of a window while Redis does not answer, when the process keeps to
// its own share of the limit.
type alone struct {
	outage int64         // the number of the outage for which share was computed
	share  int           // calls of the limit
	until  time.Duration // no call gets a turn before this time
	last   time.Duration // for how long the last 429 held calls back
	timer  bool          // a timer that starts serveAlone is running
}

// reject holds calls back after a 429: for an eighth of the interval at first, and twice
// as long after each further 429, up to an interval. When HubSpot has calls left again,
// [alone.see] ends the doubling.
func (a *alone) reject(now, interval time.Duration) {
	a.last = min(max(interval/8, 2*a.last), interval)
	a.until = now + a.last
}

// see holds the next call back while fewer calls are left than there are processes.
func (a *alone) see(left, processes int, now, spacing time.Duration) {
	if left > 0 {
		a.last = 0
	}
	if left < processes {
		a.until = max(a.until, now+spacing)
	}
}

// delayAlone returns how long the next call has to wait while Redis does not answer.
func (w *window) delayAlone(now time.Duration) time.Duration {
	if number := w.process.outages.Load(); w.alone.outage != number {
		w.alone.outage, w.alone.share = number, w.ownShare(now)
	}
	return max(0, w.alone.until-now, w.uses.until(w.alone.share-1, w.interval)-now)
}

// ownShare returns the process' share of the limit: the mean of an equal share and of its
// part of the recent calls. The shares of all processes add up to the limit.
func (w *window) ownShare(now time.Duration) int {
	share := w.limit / w.processes
	if now-w.visited < w.interval {
		own := w.uses.within(now - w.interval)
		share = (share + w.limit*own/max(1, own, w.used)) / 2
	}
	return max(1, share)
}
