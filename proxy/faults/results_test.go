package faults

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hubspot-auth-proxy/tokens/hubspottest"
)

// result is what a client saw of one request. err means that there was no answer, or
// that it broke off.
type result struct {
	replica        *replica
	method, target string
	began, ended   time.Time
	status         int
	header         http.Header
	body           string
	err            error
}

// kind describes the result as the table does: the status, with the category of the
// proxy's own answers.
func (r result) kind() string {
	category := ""
	if r.header != nil {
		category = r.header.Get("X-Hubspot-Auth-Proxy-Error")
	}
	switch {
	case r.err != nil:
		return "a broken transfer"
	case category != "":
		return fmt.Sprintf("%d `%s`", r.status, category)
	}
	return fmt.Sprint(r.status)
}

// sent returns the target that HubSpot gets: without the portal's prefix.
func (r result) sent() string { return "/" + strings.SplitN(r.target, "/", 4)[3] }

func (r result) served() bool { return r.kind() == "200" }

// wantKinds checks that the results are of all the given kinds and of no other, and
// returns the kinds as text. A kind that begins with ? may be missing.
func wantKinds(t *testing.T, results []result, kinds ...string) string {
	t.Helper()
	seen := make(map[string]int)
	for _, r := range results {
		seen[r.kind()]++
	}
	var text []string
	for _, kind := range kinds {
		name, optional := strings.CutPrefix(kind, "?")
		if seen[name] == 0 && !optional {
			t.Errorf("no client got %s; clients got %v", name, seen)
		}
		text = append(text, name)
		delete(seen, name)
	}
	if len(seen) > 0 {
		t.Errorf("clients also got %v", seen)
		for _, r := range results {
			if seen[r.kind()] > 0 {
				t.Errorf("such as %s %s at %s, after %v: %s %v %.300s", r.method, r.target, r.replica.Address, r.ended.Sub(r.began), r.kind(), r.err, r.body)
				break
			}
		}
	}
	return strings.Join(text, ", ")
}

// atExpiry allows HubSpot's 401: for a request that is under way while its token
// expires and cannot be renewed.
const atExpiry = "?401"

// wantAnswersWithin checks that no request took longer than most.
func wantAnswersWithin(t *testing.T, results []result, most time.Duration) {
	t.Helper()
	longest := time.Duration(0)
	for _, r := range results {
		longest = max(longest, r.ended.Sub(r.began))
	}
	if longest > most {
		t.Errorf("a client has waited for %v", longest)
	}
	t.Logf("%d requests, the longest took %v", len(results), longest)
}

// arrivals records what HubSpot has received: the credentials of each request, by
// method and target.
type arrivals struct {
	mu   sync.Mutex
	seen map[string][]string
}

func (a *arrivals) note(method, target, credential string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.seen == nil {
		a.seen = make(map[string][]string)
	}
	key := method + " " + target
	a.seen[key] = append(a.seen[key], credential)
}

// observe records a request that the fake HubSpot has received.
func (a *arrivals) observe(e hubspottest.Echo) {
	a.note(e.Method, e.Target, e.Header.Get("Authorization"))
}

// times returns the number of times that HubSpot has received the request.
func (a *arrivals) times(method, target string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.seen[method+" "+target])
}

// had reports whether HubSpot has received the request with the credential.
func (a *arrivals) had(method, target, credential string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Contains(a.seen[method+" "+target], credential)
}

// wantWritesOnce checks that HubSpot received no write twice, except after a 401. The
// second try must have another credential, and there must be no more second tries than
// HubSpot has sent 401s.
func (a *arrivals) wantWritesOnce(t *testing.T, unauthorized int) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	again, writes := 0, 0
	var twice []string
	for _, request := range slices.Sorted(maps.Keys(a.seen)) {
		credentials := a.seen[request]
		if strings.HasPrefix(request, "GET ") || strings.HasPrefix(request, "POST /oauth/") {
			continue
		}
		writes++
		again += len(credentials) - 1
		if len(credentials) > 2 || len(credentials) == 2 && credentials[0] == credentials[1] {
			twice = append(twice, request)
		}
	}
	if len(twice) > 0 {
		t.Errorf("%d requests were sent to HubSpot twice, such as %s", len(twice), twice[0])
	}
	if again > unauthorized {
		t.Errorf("%d writes were sent again, and there were only %d 401s", again, unauthorized)
	}
	if writes == 0 {
		t.Error("HubSpot has received no write at all")
	}
}
