package budget

import "time"

// alone is how a process keeps to the limit while Redis does not answer.
type alone struct {
	outage int64 // that share is for
	share  int   // of the limit
	until  time.Duration
	last   time.Duration // for how long the last 429 has held back
	timer  bool          // serveAlone is called again
}

// delayAlone returns how long the next call has to wait.
func (w *window) delayAlone(now time.Duration) time.Duration {
	if number := w.budget.outage.number.Load(); w.alone.outage != number {
		w.alone.outage, w.alone.share = number, w.ownShare(now)
	}
	return max(0, w.alone.until-now, w.uses.until(w.alone.share-1, w.interval)-now)
}

// ownShare returns the process' share of the limit: the mean of an equal one, and of
// the share of the calls that it has sent. The shares of all processes are together
// the limit.
func (w *window) ownShare(now time.Duration) int {
	share := w.limit / w.processes
	if now-w.visited < w.interval {
		own := w.uses.within(now - w.interval)
		share = (share + w.limit*own/max(1, own, w.used)) / 2
	}
	return max(1, share)
}

// reject holds back after a 429: for an eighth of the interval, twice as long each
// time until a call is accepted, and an interval at most.
func (a *alone) reject(now, interval time.Duration) {
	a.last = min(max(interval/8, 2*a.last), interval)
	a.until = now + a.last
}

// see holds back while hardly any calls are left.
func (a *alone) see(left, processes int, now, spacing time.Duration) {
	if left > 0 {
		a.last = 0
	}
	if left < processes {
		a.until = max(a.until, now+spacing)
	}
}

// serveAlone gives turns to those who wait, by the process' own share. The window's
// lock is held.
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
			time.AfterFunc(min(delay, probeEvery), func() {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.alone.timer = false
				w.kick()
			})
		}
		return
	}
}
