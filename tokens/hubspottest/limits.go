package hubspottest

import (
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"time"
)

// Limits are how many calls HubSpot takes from an app for one portal. A zero
// value means that there is no such limit.
type Limits struct {
	// Burst is how many calls there may be within any Interval, searches of CRM
	// objects apart.
	Burst    int
	Interval time.Duration

	// Search is how many searches of CRM objects there may be within any second.
	Search int

	// Daily is how many calls there may be, from the first one on. The fake
	// HubSpot has no midnight.
	Daily int
}

// limited is a portal's limits, and the calls that count. Server.mu guards it.
type limited struct {
	Limits
	calls, searches []time.Time // that were taken within the last window, in order
	today           int
	refused         int
}

// SetLimits makes the API keep limits for the portal: a call that is over one is
// answered 429 with HubSpot's body, and does not count. Calls that were taken
// before count, so that a limit that is cut is exceeded at first. Calls that are
// answered 401 neither count nor have the headers of the limits.
func (s *Server) SetLimits(portal string, limits Limits) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ledger.portal(portal).limited.Limits = limits
}

// RateLimited counts the portal's calls that were answered 429 because of
// [Server.SetLimits].
func (s *Server) RateLimited(portal string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ledger.portal(portal).limited.refused
}

// limit takes the call, and sets the headers of the limits. It returns the body of
// a 429 if the call is over a limit, else nil.
func (s *Server) limit(w http.ResponseWriter, r *http.Request, v verdict) any {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.ledger.portals[v.portal]
	if p == nil || p.limited.Limits == (Limits{}) {
		return nil
	}
	now, l := time.Now(), &p.limited
	body := l.take(v.portal, isSearch(r), now)
	if body != nil {
		l.refused++
	}
	l.announce(w.Header(), isSearch(r), v.kind != CredentialOAuth, now)
	return body
}

// take counts a call that is within the limits.
func (l *limited) take(portal string, search bool, now time.Time) any {
	calls, limit, window := &l.calls, l.Burst, l.Interval
	body := burstLimit(portal)
	if search {
		calls, limit, window, body = &l.searches, l.Search, time.Second, secondLimit(portal)
	}
	*calls = within(*calls, window, now)
	switch {
	case l.Daily > 0 && l.today >= l.Daily:
		return dailyLimit()
	case limit > 0 && len(*calls) >= limit:
		return body
	}
	l.today++
	if limit > 0 {
		*calls = append(*calls, now)
	}
	return nil
}

// within returns the calls that are still in the window.
func within(calls []time.Time, window time.Duration, now time.Time) []time.Time {
	first := slices.IndexFunc(calls, func(t time.Time) bool { return now.Sub(t) < window })
	if first < 0 {
		return calls[:0]
	}
	return slices.Delete(calls, 0, first)
}

// announce sets the headers by which HubSpot says what is left. Answers to searches
// have none, and the daily ones are not sent to OAuth apps.
func (l *limited) announce(header http.Header, search, daily bool, now time.Time) {
	if search {
		return
	}
	set := func(name string, value int) { header.Set(name, strconv.Itoa(max(0, value))) }
	if l.Burst > 0 {
		left := l.Burst - len(within(l.calls, l.Interval, now))
		set("X-Hubspot-Ratelimit-Interval-Milliseconds", int(l.Interval.Milliseconds()))
		set("X-Hubspot-Ratelimit-Max", l.Burst)
		set("X-Hubspot-Ratelimit-Remaining", left)
		set("X-Hubspot-Ratelimit-Secondly", l.Burst/10)
		set("X-Hubspot-Ratelimit-Secondly-Remaining", min(l.Burst/10, left))
	}
	if l.Daily > 0 && daily {
		set("X-Hubspot-Ratelimit-Daily", l.Daily)
		set("X-Hubspot-Ratelimit-Daily-Remaining", l.Daily-l.today)
	}
}

var searchPath = regexp.MustCompile(`^/crm/(?:v[0-9]+/objects|objects/[0-9a-z-]+)/[^/]+/search$`)

func isSearch(r *http.Request) bool {
	return r.Method == http.MethodPost && searchPath.MatchString(r.URL.Path)
}

// dailyLimit is what HubSpot says when the account has used up its day's calls.
func dailyLimit() apiError {
	return apiError{
		Status:        "error",
		Message:       "You have reached your daily limit.",
		ErrorType:     "RATE_LIMIT",
		CorrelationID: newCorrelationID(),
		PolicyName:    "DAILY",
		RequestID:     newCorrelationID(),
	}
}
