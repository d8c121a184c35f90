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

// result is what a client saw of one request.
type result struct {
	replica        *replica
	method, target string
	began, ended   time.Time
	status         int
	header         http.Header
	body           string
	err            error // there was no answer, or it broke off
}

// kind says in a few words what the client saw.
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

// sent is the target that HubSpot is asked for.
func (r result) sent() string { return "/" + strings.SplitN(r.target, "/", 4)[3] }

func (r result) served() bool { return r.kind() == "200" }

// wantKinds wants clients to have seen each of the kinds, and no other, and
// returns them as text. A kind that begins with ? need not have been seen.
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
			t.Errorf("no client has seen %s, but %v", name, seen)
		}
		text = append(text, name)
		delete(seen, name)
	}
	if len(seen) > 0 {
		t.Errorf("clients have seen %v", seen)
		for _, r := range results {
			if seen[r.kind()] > 0 {
				t.Errorf("such as %s %s at %s, after %v: %s %v %.300s", r.method, r.target, r.replica.Address, r.ended.Sub(r.began), r.kind(), r.err, r.body)
				break
			}
		}
	}
	return strings.Join(text, ", ")
}

// atExpiry is what a request may see that is under way to HubSpot as its token
// expires, if that cannot be renewed then.
const atExpiry = "?401"

// wantPatience wants no client to have waited longer.
func wantPatience(t *testing.T, results []result, most time.Duration) {
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

// arrivals is what HubSpot has received: the credentials that each request
// came with, by its method and target.
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

// observe notes what the fake HubSpot receives.
func (a *arrivals) observe(e hubspottest.Echo) {
	a.note(e.Method, e.Target, e.Header.Get("Authorization"))
}

// times returns how often HubSpot has received the request.
func (a *arrivals) times(method, target string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.seen[method+" "+target])
}

// wantWritesOnce wants that nothing that changes something came to HubSpot
// twice, but after a 401: with another credential then, and with no more of
// those than there were 401s.
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
		t.Errorf("%d requests came to HubSpot twice, such as %s", len(twice), twice[0])
	}
	if again > unauthorized {
		t.Errorf("%d writes came again, and there were %d 401s only", again, unauthorized)
	}
	if writes == 0 {
		t.Error("HubSpot has seen no write at all")
	}
}
