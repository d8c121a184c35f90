package budget

import (
	"net/http"
	"strconv"
	"time"
)

// HubSpot's names for its limits: the values of policyName in HubSpot's 429 answers.
const (
	PolicyBurst  = "TEN_SECONDLY_ROLLING"
	PolicySecond = "SECONDLY"
	PolicyDaily  = "DAILY" // SDKs do not wait for it
)

// IsBurst reports whether the policy is a limit of seconds, so that waiting helps.
func IsBurst(policy string) bool { return policy == PolicyBurst || policy == PolicySecond }

// Answered records that the call was sent at that time, and learns the limits from the
// header of HubSpot's answer.
func (t Turn) Answered(header http.Header, sent time.Time) {
	if t.window != nil {
		t.window.answered(t, header, sent)
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
	w.budget.metrics.rejected.Inc()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rejected = w.interval
	if policy == PolicySecond {
		w.rejected = min(w.interval, time.Second)
	}
	now := w.budget.now()
	// Earlier calls may have taken longer to arrive at HubSpot than assumed.
	w.margin = min(2*w.margin, w.interval/4)
	w.alone.reject(now, w.interval)
	w.far, w.doubtUntil = false, now+w.interval
	if w.stock > 0 {
		w.uses.giveBack(w.stockFrom, w.stock)
		w.stock = 0
	}
	w.report()
}

// unused gives the turn back: its call is not sent.
func (t Turn) unused() {
	if w := t.window; w != nil && t.from != 0 {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.uses.giveBack(t.from, 1)
		w.release(t.reserved)
	}
}

// answered records the use of the turn, and learns from the header.
func (w *window) answered(t Turn, header http.Header, sent time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now, began := w.budget.now(), sent.Sub(w.budget.began)
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

// minMargin is the shortest time that calls are assumed to take until they arrive at
// HubSpot. On a busy machine many take more than the 25 ms that would be a fortieth of
// the interval of searches.
func (w *window) minMargin() time.Duration { return max(w.interval/40, 50*time.Millisecond) }

// seenHeaders are the values of HubSpot's headers that were parsed last, with the
// result. Most answers have the same values.
type seenHeaders struct {
	limitText, intervalText string
	limit                   int
	interval                time.Duration
}

// read parses the values, and reports whether they are a limit and an interval.
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
	interval := time.Duration(min(ms, int(maxInterval.Milliseconds()))) * time.Millisecond
	*h = seenHeaders{limitText, intervalText, min(limit, maxLimit), max(interval, minInterval)}
	return true
}

// learn reads the limit, and the calls that are left, from the header of an answer.
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
		w.doubtUntil = now + w.interval
	}
	w.alone.see(left, w.processes, now, w.interval/time.Duration(max(1, w.alone.share)))
}

func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}
