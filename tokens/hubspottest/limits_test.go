package hubspottest_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"hubspot-auth-proxy/tokens/hubspottest"
)

// limitedCall calls the API with the token, and returns the answer and its body's fields.
func limitedCall(t *testing.T, hub *hubspottest.Server, method, path, token string) (*http.Response, map[string]string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, hub.URL+path, strings.NewReader(""))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]string
	_ = json.Unmarshal(text, &fields)
	return response, fields
}

const (
	anyPath    = "/crm/v3/objects/contacts"
	searchPath = "/crm/v3/objects/contacts/search"
)

func TestTheBurstLimitIsARollingWindow(t *testing.T) {
	hub := hubspottest.NewServer()
	t.Cleanup(hub.Close)
	token := "pat-" + hubspottest.Canary
	hub.SetAccessToken("1", token)
	const window = 300 * time.Millisecond
	hub.SetLimits("1", hubspottest.Limits{Burst: 3, Interval: window})
	first := time.Now()
	for left := range 3 {
		response, _ := limitedCall(t, hub, "GET", anyPath, token)
		if got := response.Header.Get("X-HubSpot-RateLimit-Remaining"); response.StatusCode != 200 || got != string(rune('2'-left)) {
			t.Fatalf("%d, %s left", response.StatusCode, got)
		}
	}
	response, fields := limitedCall(t, hub, "GET", anyPath, token)
	if response.StatusCode != 429 || fields["policyName"] != "TEN_SECONDLY_ROLLING" || fields["errorType"] != "RATE_LIMIT" {
		t.Fatalf("%d %v", response.StatusCode, fields)
	}
	if h := response.Header; h.Get("X-HubSpot-RateLimit-Max") != "3" || h.Get("X-HubSpot-RateLimit-Interval-Milliseconds") != "300" ||
		h.Get("X-HubSpot-RateLimit-Remaining") != "0" || h.Get("Retry-After") != "" {
		t.Errorf("%v", h)
	}
	for response.StatusCode == 429 {
		response, _ = limitedCall(t, hub, "GET", anyPath, token)
	}
	if took := time.Since(first); response.StatusCode != 200 || took < window {
		t.Errorf("%d after %v", response.StatusCode, took)
	}
	if hub.RateLimited("1") == 0 {
		t.Error("no 429 was counted")
	}
}

func TestSearchesHaveTheirOwnLimitAndNoHeaderFields(t *testing.T) {
	hub := hubspottest.NewServer()
	t.Cleanup(hub.Close)
	token := "pat-" + hubspottest.Canary
	hub.SetAccessToken("1", token)
	hub.SetLimits("1", hubspottest.Limits{Burst: 1, Interval: time.Minute, Search: 2})
	limitedCall(t, hub, "GET", anyPath, token)
	for _, want := range []int{200, 200, 429} {
		response, fields := limitedCall(t, hub, "POST", searchPath, token)
		if response.StatusCode != want || response.Header.Get("X-HubSpot-RateLimit-Max") != "" {
			t.Fatalf("%d, want %d: %v", response.StatusCode, want, response.Header)
		}
		if want == 429 && fields["policyName"] != "SECONDLY" {
			t.Errorf("%v", fields)
		}
	}
	if response, fields := limitedCall(t, hub, "GET", anyPath, token); response.StatusCode != 429 || fields["policyName"] != "TEN_SECONDLY_ROLLING" {
		t.Errorf("%d %v", response.StatusCode, fields)
	}
}

func TestTheDailyLimitCountsAllCalls(t *testing.T) {
	hub := hubspottest.NewServer()
	t.Cleanup(hub.Close)
	token := "pat-" + hubspottest.Canary
	hub.SetAccessToken("1", token)
	hub.SetLimits("1", hubspottest.Limits{Burst: 100, Interval: time.Minute, Search: 5, Daily: 2})
	limitedCall(t, hub, "POST", searchPath, token)
	response, _ := limitedCall(t, hub, "GET", anyPath, token)
	if got := response.Header.Get("X-HubSpot-RateLimit-Daily-Remaining"); got != "0" {
		t.Errorf("%q left", got)
	}
	response, fields := limitedCall(t, hub, "GET", anyPath, token)
	if response.StatusCode != 429 || fields["policyName"] != "DAILY" {
		t.Errorf("%d %v", response.StatusCode, fields)
	}
	oauth, _ := limitedCall(t, hub, "GET", anyPath, hub.Issue("1", time.Minute))
	if oauth.Header.Get("X-HubSpot-RateLimit-Daily") != "" {
		t.Error("an OAuth app receives the daily limit")
	}
}
