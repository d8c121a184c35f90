package budget

import (
	"net/http"
	"strconv"
	"time"
)

// HubSpot's names for its limits, as the policyName of its 429 answers has them.
const (
	PolicyBurst  = "TEN_SECONDLY_ROLLING"
	PolicySecond = "SECONDLY"
	PolicyDaily  = "DAILY" // SDKs do not wait for it
)

// IsBurst reports whether the policy, as HubSpot's 429 names it, is a limit that is
// over in a short while.
func IsBurst(policy string) bool { return policy == PolicyBurst || policy == PolicySecond }

// Answered takes in what HubSpot's header says about the limits, after the call was
// sent at that time.
func (t Turn) Answered(header http.Header, sent time.Time) {
	if t.window != nil {
		t.window.answered(t, header, sent)
	}
}

// Failed notes that the call was sent at that time, and not answered.
func (t Turn) Failed(sent time.Time) { t.Answered(nil, sent) }

// Rejected holds the portal's calls back in all processes, after HubSpot has answered
// 429 because of the limit of that name, for which [IsBurst] reports true. It follows
// [Turn.Answered].
func (t Turn) Rejected(policy string) {
	w := t.window
	if w == nil {
		return
	}
	w.budget.metrics.rejected.Inc()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rejected = w.interval
	if policy == PolicySecond {
		w.rejected = min(w.interval, time.Second)
	}
	now := w.budget.now()
	// The calls of a moment ago may have arrived later than was supposed.
	w.margin = min(2*w.margin, w.interval/4)
	w.alone.reject(now, w.interval)
	w.far, w.doubt = false, now+w.interval
	if w.stock > 0 {
		w.uses.giveBack(w.stockFrom, w.stock)
		w.stock = 0
	}
	w.report()
}

// unused gives the turn back.
func (t Turn) unused() {
	if w := t.window; w != nil && t.from != 0 {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.uses.giveBack(t.from, 1)
		w.end(t.reserved)
	}
}

// answered notes when the turn was used, and what the header says.
func (w *window) answered(t Turn, header http.Header, sent time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now, began := w.budget.now(), sent.Sub(w.budget.began)
	if t.from != 0 {
		// HubSpot counts a call when it arrives, which an answer that takes long
		// says nothing about.
		w.margin = max(w.margin-w.margin/200, w.leastMargin())
		w.uses.add(min(now, began+w.margin), t.from, 1, w.interval)
		w.end(t.reserved)
	}
	if !w.key.search {
		w.learn(header, began, now)
	}
}

// leastMargin is how long a call may take to arrive at HubSpot, as is supposed.
func (w *window) leastMargin() time.Duration { return w.interval / 40 }

// seenHeaders are the values of HubSpot's headers that were read last, and what they
// say: most answers have the same.
type seenHeaders struct {
	limitText, intervalText string
	limit                   int
	interval                time.Duration
}

// read reads the values, and reports whether they say something.
func (h *seenHeaders) read(limitText, intervalText string) bool {
	if limitText == "" || intervalText == "" {
		return false
	}
	if h.limitText == limitText && h.intervalText == intervalText {
		return true
	}
	limit, err := strconv.Atoi(limitText)
	ms, err2 := strconv.Atoi(intervalText)
	if err != nil || err2 != nil || limit < 1 || ms < 1 {
		return false
	}
	interval := time.Duration(min(ms, int(mostInterval.Milliseconds()))) * time.Millisecond
	*h = seenHeaders{limitText, intervalText, min(limit, mostLimit), max(interval, leastInterval)}
	return true
}

// learn takes in what the header of HubSpot's answer says about the limit.
func (w *window) learn(header http.Header, sent, now time.Duration) {
	h := &w.headers
	if !h.read(first(header["X-Hubspot-Ratelimit-Max"]), first(header["X-Hubspot-Ratelimit-Interval-Milliseconds"])) {
		return
	}
	if h.limit != w.limit || h.interval != w.interval {
		w.limit, w.interval, w.learned = h.limit, h.interval, true
	}
	left, err := strconv.Atoi(first(header["X-Hubspot-Ratelimit-Remaining"]))
	if err != nil || left < 0 || left > w.limit {
		return
	}
	w.observed = observation{counted: w.limit - left, sent: sent, answered: now}
	if left <= w.limit/4 {
		w.doubt = now + w.interval
	}
	w.alone.see(left, w.processes, now, w.interval/time.Duration(max(1, w.alone.share)))
}

func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}
