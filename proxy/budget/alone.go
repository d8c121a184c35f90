package budget

import "time"

// alone is the state of a window while Redis does not answer, when the process keeps to
// its own share of the limit.
type alone struct {
	outage int64         // the number of the outage for which share was computed
	share  int           // calls of the limit
	until  time.Duration // no call gets a turn before this time
	last   time.Duration // for how long the last 429 held calls back
	timer  bool          // a timer that starts serveAlone is running
}

// delayAlone returns how long the next call has to wait while Redis does not answer.
func (w *window) delayAlone(now time.Duration) time.Duration {
	if number := w.budget.outage.number.Load(); w.alone.outage != number {
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

// reject holds calls back after a 429: for an eighth of the interval at first, and twice
// as long after each further 429, up to an interval. [alone.see] begins anew when
// HubSpot has calls left.
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

// serveAlone gives turns of the process' own share to the calls that wait. The caller
// holds w.mu.
func (w *window) serveAlone() {
	now := w.budget.now()
	for w.queue.waiting > 0 {
		delay := w.delayAlone(now)
		if delay == 0 {
			w.give(Turn{window: w}, now)
			continue
		}
		w.spacing = w.interval / time.Duration(w.alone.share)
		w.lastTurn, w.used = max(w.lastTurn, now+delay), w.limit
		if !w.alone.timer {
			w.alone.timer = true
			time.AfterFunc(min(delay, probeInterval), func() {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.alone.timer = false
				w.startVisits()
			})
		}
		return
	}
}
