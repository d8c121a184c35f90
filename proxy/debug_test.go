package proxy_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const own = "X-Hubspot-Auth-Proxy-"

// ownHeader returns what an answer has of the proxy's own, but for times.
func ownHeader(header http.Header) map[string]string {
	found := make(map[string]string)
	for name, values := range header {
		if after, is := strings.CutPrefix(name, own); is {
			found[after] = strings.Join(values, "|")
		}
	}
	return found
}

func TestDebugHeadersExplainTheAnswerIfAskedFor(t *testing.T) {
	r := startKinds(t, setup{})
	for _, test := range []struct {
		target string
		want   map[string]string
		timing string
	}{
		{"/a", map[string]string{"Portal": portalID, "Credential": "oauth", "Attempts": "1"}, `credential;dur=N, hubspot;dur=N`},
		{"/portals/62516/a", map[string]string{"Portal": staticPortal, "Credential": "access_token", "Attempts": "1"}, `credential;dur=N, hubspot;dur=N`},
		{"/portals/62517/a", map[string]string{"Portal": keyPortal, "Credential": "api_key", "Attempts": "1"}, `credential;dur=N, hubspot;dur=N`},
		{"/oauth/v1/a", map[string]string{"Attempts": "1"}, `hubspot;dur=N`},
		{"/portals/1/a", map[string]string{"Portal": "1", "Attempts": "0", "Error": "PORTAL_NOT_CONNECTED"}, `credential;dur=N`},
	} {
		got := r.answerTo("GET " + test.target + " HTTP/1.1\r\nHost: localhost\r\nX-HubSpot-Auth-Proxy-Debug: 1\r\n\r\n")
		if diff := cmp.Diff(test.want, ownHeader(got.Header)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.target, diff)
		}
		timing := regexp.MustCompile(`\d+\.\d{3}`).ReplaceAllString(strings.Join(got.Header["Server-Timing"], "|"), "N")
		if timing != test.timing {
			t.Errorf("%s: Server-Timing is %q", test.target, timing)
		}
	}
}

func TestDebugHeadersReportASecondTry(t *testing.T) {
	r := startKinds(t, setup{})
	r.arrived(head())
	r.hub.Expire(portalID)
	got := r.answerTo(head(own + "Debug: 1"))
	if diff := cmp.Diff(map[string]string{"Portal": portalID, "Credential": "oauth", "Attempts": "2"}, ownHeader(got.Header)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if timing := got.Header.Get("Server-Timing"); !strings.Contains(timing, "renewal;dur=") {
		t.Errorf("Server-Timing is %q", timing)
	}
}

func TestHubSpotsOwnTimingIsKept(t *testing.T) {
	r := start(t, setup{proxy: script(t, "HTTP/1.1 200 OK\r\nServer-Timing: hcid;desc=\"a\"\r\nContent-Length: 0\r\n\r\n").set})
	r.connect(portalID)
	got := r.answerTo(head(own + "Debug: 1"))
	if timing := got.Header["Server-Timing"]; len(timing) != 2 || timing[0] != `hcid;desc="a"` {
		t.Errorf("Server-Timing is %q", timing)
	}
}

func TestWhoDoesNotAskGetsNothingOfOurs(t *testing.T) {
	r := startKinds(t, setup{})
	for _, lines := range [][]string{nil, {own + "Debug: 0"}, {own + "Debug: true"}, {own + "Debug:"}} {
		got := r.answerTo(head(lines...))
		if found := ownHeader(got.Header); len(found) > 0 || got.Header["Server-Timing"] != nil {
			t.Errorf("%q: %v", lines, got.Header)
		}
	}
	got := r.answerTo("GET /portals/1/a HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if diff := cmp.Diff(map[string]string{"Error": "PORTAL_NOT_CONNECTED"}, ownHeader(got.Header)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWhatIsRefusedBeforeAnythingTookTimeHasNoTiming(t *testing.T) {
	r := startKinds(t, setup{})
	got := r.answerTo("GET /portals/x/a HTTP/1.1\r\nHost: localhost\r\n" + own + "Debug: 1\r\n\r\n")
	if timing, has := got.Header["Server-Timing"]; has {
		t.Errorf("Server-Timing is %q", timing)
	}
}
