package hubspottest

import (
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"time"
)

// Limits are the numbers of calls that HubSpot accepts from an app for one portal. 0 means
// no limit.
type Limits struct {
	// Burst limits the calls within any Interval. Searches of CRM objects do not count.
	Burst    int
	Interval time.Duration

	// Search limits the searches of CRM objects within any second.
	Search int

	// Daily limits all calls from the first one on. Unlike HubSpot, the fake does not
	// start again at midnight.
	Daily int
}

// limited has a portal's limits and the calls that count. Server.mu guards it.
type limited struct {
	Limits
	calls, searches []time.Time // the accepted calls of the last window, in order
	today           int         // accepted calls of all kinds
	refused         int         // calls that were answered 429
}

// SetLimits makes the API enforce limits for the portal. A call over a limit is answered
// 429 with HubSpot's body, and does not count. Calls before SetLimits count, so a lower
// limit may be exceeded at first. Calls that are answered 401 neither count nor get the
// header fields of the limits.
func (s *Server) SetLimits(portal string, limits Limits) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ledger.portal(portal).limited.Limits = limits
}

// RateLimited returns the number of the portal's calls that were answered 429 because of
// [Server.SetLimits].
func (s *Server) RateLimited(portal string) int {
	return read(s, func() int { return s.ledger.portal(portal).limited.refused })
}

// limit counts the call and sets the header fields of the limits. It returns the body of
// a 429 if the call is over a limit, or nil.
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

// take counts the call if it is within the limits. Otherwise take returns the body of a
// 429.
func (l *limited) take(portal string, search bool, now time.Time) any {
	calls, limit, window := &l.calls, l.Burst, l.Interval
	body := burstLimit(portal)
	if search {
		calls, limit, window, body = &l.searches, l.Search, time.Second, secondLimit(portal)
	}
	*calls = within(*calls, window, now)
	switch {
	case l.Daily > 0 && l.today >= l.Daily:
		return rateLimit("DAILY", "")
	case limit > 0 && len(*calls) >= limit:
		return body
	}
	l.today++
	if limit > 0 {
		*calls = append(*calls, now)
	}
	return nil
}

// within returns the calls that are within the window before now.
func within(calls []time.Time, window time.Duration, now time.Time) []time.Time {
	first := slices.IndexFunc(calls, func(t time.Time) bool { return now.Sub(t) < window })
	if first < 0 {
		return calls[:0]
	}
	return slices.Delete(calls, 0, first)
}

// announce sets the header fields in which HubSpot reports the limits and the remaining
// calls. As at HubSpot, answers to searches have none, and OAuth apps do not get those of
// the daily limit.
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
