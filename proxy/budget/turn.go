package budget

import (
	"net/http"
	"strconv"
	"time"

	"hubspot-auth-proxy/proxy/wire"
)

// A Call is what a turn is for.
type Call struct {
	Portal string

	// Client is the client's name. Anonymous clients share the empty name.
	Client string

	// Search reports that the call is a search of CRM objects. Searches have a limit
	// of their own.
	Search bool

	// Again reports that HubSpot has answered 429 to the call. The call then has the
	// next turn of its client.
	Again bool
}

// A Turn is one call's place within the limits. The zero value is the turn of a call
// that has no limits.
type Turn struct {
	// Waited is how long the call has waited for its turn.
	Waited time.Duration

	window *window
	slot
}

// Answered records that the call was sent at that time, and learns the limits from the
// header of HubSpot's answer.
func (t Turn) Answered(header http.Header, sent time.Time) {
	w := t.window
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	now, began := w.process.now(), sent.Sub(w.process.began)
	if t.from != 0 {
		// HubSpot counts a call when the call arrives, which may be long before its
		// answer comes.
		w.margin = max(w.margin-w.margin/200, w.minMargin())
		w.uses.add(min(now, began+w.margin), t.from, 1, w.interval)
		w.release(t.reserved)
	}
	if !w.key.search {
		w.learn(header, began, now)
	}
}

// Failed records that the call was sent at that time, and that no answer came.
func (t Turn) Failed(sent time.Time) { t.Answered(nil, sent) }

// Rejected records that HubSpot has answered 429. Rejected holds the portal's calls back,
// in all processes, until the window of the limit is over. [IsBurst] must report true for
// the policy. The caller calls [Turn.Answered] first.
func (t Turn) Rejected(policy string) {
	w := t.window
	if w == nil {
		return
	}
	w.process.metrics.rejected.Inc()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rejected = w.interval
	if policy == PolicySecond {
		w.rejected = min(w.interval, time.Second)
	}
	now := w.process.now()
	// Earlier calls may have taken longer to arrive at HubSpot than assumed.
	w.margin = min(2*w.margin, w.interval/4)
	w.alone.reject(now, w.interval)
	w.far, w.doubtUntil = false, now+w.interval
	w.giveBackStock()
	w.report()
}

// learn reads the limit, and the calls that are left, from the header of an answer.
func (w *window) learn(header http.Header, sent, now time.Duration) {
	h := &w.headers
	if !h.read(header) {
		return
	}
	if h.limit != w.limit || h.interval != w.interval {
		w.limit, w.interval, w.learned = h.limit, h.interval, true
	}
	left, err := strconv.Atoi(wire.First(header, "X-Hubspot-Ratelimit-Remaining"))
	if err != nil || left < 0 || left > w.limit {
		return
	}
	w.observed = observation{counted: w.limit - left, sent: sent, answered: now}
	if left <= w.limit/4 {
		w.doubtUntil = now + w.interval
	}
	w.alone.see(left, w.processes, now, w.interval/time.Duration(max(1, w.alone.share)))
}
