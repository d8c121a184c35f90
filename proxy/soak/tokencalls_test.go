package soak

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/secret"
)

// tokenCalls is the transport by which all proxies call the token endpoint. It records
// each call.
type tokenCalls struct {
	next  http.RoundTripper
	judge *judge

	mu      sync.Mutex
	calls   []tokenCall
	portals map[string]string    // by refresh token: its portal
	issued  map[string]time.Time // by access token: the start of the call that returned it
	last    map[string]time.Time // by portal: the start of the call that returned its valid token
	forced  []tokenCall          // the times at which a portal's token became invalid early
}

// tokenCall is one call of the token endpoint.
type tokenCall struct {
	portal       string
	began, ended time.Time
	gave         bool // the call returned a token
}

// connect gives the portal a new grant at HubSpot, and returns its refresh token.
func (c *tokenCalls) connect(hub *hubspottest.Server, portal string) (refresh secret.Text) {
	c.mu.Lock()
	defer c.mu.Unlock()
	refresh = secret.New(hub.Connect(portal))
	c.portals[refresh.Reveal()] = portal
	return refresh
}

// force records that the portal's token became invalid between began and ended.
func (c *tokenCalls) force(portal string, began, ended time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forced = append(c.forced, tokenCall{portal: portal, began: began, ended: ended})
	delete(c.last, portal)
}

// issuedAt returns the start of the call that returned the access token, or the zero
// time if there was none.
func (c *tokenCalls) issuedAt(access string) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.issued[access]
}

// lastIssued returns the start of the call that returned the portal's valid token, or
// the zero time if the portal may have no valid token.
func (c *tokenCalls) lastIssued(portal string) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last[portal]
}

// RoundTrip implements [http.RoundTripper].
func (c *tokenCalls) RoundTrip(r *http.Request) (*http.Response, error) {
	form, _ := io.ReadAll(r.Body)
	_ = r.Body.Close()
	r = r.Clone(r.Context())
	r.Body = io.NopCloser(bytes.NewReader(form))
	parameters, _ := url.ParseQuery(string(form))
	began := time.Now()
	response, err := c.next.RoundTrip(r)
	var token struct {
		Access  string `json:"access_token"`
		Refresh string `json:"refresh_token"`
	}
	if err == nil {
		text, _ := io.ReadAll(response.Body)
		_ = response.Body.Close()
		_ = json.Unmarshal(text, &token)
		response.Body = io.NopCloser(bytes.NewReader(text))
	}
	c.note(parameters.Get("refresh_token"), token.Refresh, token.Access, began)
	return response, err
}

// note records a call that has ended.
func (c *tokenCalls) note(former, refresh, access string, began time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	call := tokenCall{portal: c.portals[former], began: began, ended: time.Now(), gave: access != ""}
	c.calls = append(c.calls, call)
	if call.gave {
		c.portals[refresh] = call.portal
		c.issued[access] = began
		c.last[call.portal] = began
	}
}

// judgeTokenCalls fails the test if there was no reason for a call. It returns the
// number of calls for each reason.
func (w *world) judgeTokenCalls() string {
	w.calls.mu.Lock()
	defer w.calls.mu.Unlock()
	if noted, counted := len(w.calls.calls), w.hub.TokenCallsTotal(); noted != counted {
		w.judge.violation("HubSpot counts %d calls of the token endpoint, not %d", counted, noted)
	}
	byPortal := make(map[string][]tokenCall)
	for _, call := range w.calls.calls {
		byPortal[call.portal] = append(byPortal[call.portal], call)
	}
	reasons := make(map[string]int)
	for portal, calls := range byPortal {
		slices.SortFunc(calls, func(a, b tokenCall) int { return a.began.Compare(b.began) })
		for i, call := range calls {
			reason := w.reason(calls[:i], call)
			if reason == "" {
				w.judge.violation("portal %s was renewed %v after a renewal, without a reason", portal, call.began.Sub(calls[i-1].began))
			}
			reasons[reason]++
		}
	}
	return fmt.Sprintf("%d token calls: %s", len(w.calls.calls), list(reasons))
}

// reason returns the reason of a portal's token call, given the calls before, or "" if
// there is no reason. The program promises one renewal in the second half of a token's
// life, when it is due. The other reasons are allowances for faults.
func (w *world) reason(before []tokenCall, call tokenCall) string {
	if len(before) == 0 {
		return "first"
	}
	var given time.Time // the start of the call that returned the portal's token
	for _, former := range before {
		if former.gave {
			given = former.began
		}
	}
	switch {
	case call.portal == "":
		return ""
	case call.began.Sub(given) > tokenLife/2:
		return "due"
	case slices.ContainsFunc(w.calls.forced, func(f tokenCall) bool {
		return f.portal == call.portal && !f.ended.Before(given) && !f.began.After(call.ended)
	}):
		return "token taken away"
	case !before[len(before)-1].gave:
		return "after a failed call"
	case w.judge.redisUnreachable(call.began, call.ended):
		return "Redis was unreachable"
	}
	return ""
}

// summary describes the run in one line.
func (w *world) summary(calls string) string {
	return fmt.Sprintf("%d requests; %s; faults: %s; answers: %s; %d writes sent again after a 401",
		w.judge.requests, calls, list(w.judge.faults), list(w.judge.kinds), w.judge.repeated)
}

// list returns the counts as text, sorted by name.
func list(counts map[string]int) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%s %d", name, counts[name]))
	}
	return strings.Join(parts, ", ")
}
