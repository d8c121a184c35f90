package proxy_test

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"hubspot-auth-proxy/proxy"
	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/testkit"
)

// gathered returns the value of every series, the number of observations of
// histograms, by name and labels' values, without the common prefix: as in
// "requests_total method=read status=2xx …".
func gathered(t testing.TB, from prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := from.Gather()
	if err != nil {
		t.Fatal(err)
	}
	series := make(map[string]float64)
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			name := strings.TrimPrefix(family.GetName(), "hubspot_auth_proxy_")
			for _, label := range metric.GetLabel() {
				name += " " + label.GetName() + "=" + label.GetValue()
			}
			// Of what it is not, each is zero.
			series[name] = metric.GetCounter().GetValue() + metric.GetGauge().GetValue() + float64(metric.GetHistogram().GetSampleCount())
		}
	}
	return series
}

// counted returns the series of the rig that are not zero, when no request is
// under way any more.
func (r *rig) counted() map[string]float64 {
	r.t.Helper()
	testkit.Eventually(r.t, "the end of all requests", func() bool {
		return gathered(r.t, r.metrics)["requests_in_flight"] == 0
	})
	series := gathered(r.t, r.metrics) // those above are not of one moment
	for name, value := range series {
		if value == 0 {
			delete(series, name)
		}
	}
	return series
}

func requests(method, status, by, category string) string {
	return fmt.Sprintf("requests_total answered_by=%s category=%s method=%s status=%s", by, category, method, status)
}

var categoryInCode = regexp.MustCompile(`(?:category: +|newRefusal\(|newDelay\()"([A-Z_]+)"`)

// A category that were not there from the start would be seen by no alert the
// first time.
func TestEveryRefusalIsInTheMetricsFromTheStart(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	want := make(map[string]bool)
	for _, file := range files {
		code, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range categoryInCode.FindAllSubmatch(code, -1) {
			want[string(found[1])] = !strings.HasSuffix(file, "_test.go")
		}
	}
	registry := prometheus.NewRegistry()
	proxy.New(proxy.Options{Upstream: nowhere, Metrics: registry}).Close()
	got := make(map[string]bool)
	for series, value := range gathered(t, registry) {
		if _, after, _ := strings.Cut(series, "category="); strings.Contains(series, "answered_by=proxy") {
			category, _, _ := strings.Cut(after, " ")
			got[category] = value == 0
		}
	}
	if diff := cmp.Diff(want, got); diff != "" || len(want) < 10 {
		t.Errorf("(-in refusals +in metrics):\n%s", diff)
	}
	manual, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for category := range want {
		if !strings.Contains(string(manual), "`"+category+"`") {
			t.Errorf("README.md does not say what to do about %s", category)
		}
	}
}

func TestWhatAlertsLookAtIsThereFromTheStart(t *testing.T) {
	registry := prometheus.NewRegistry()
	proxy.New(proxy.Options{Upstream: nowhere, Metrics: registry}).Close()
	series := gathered(t, registry)
	for _, name := range []string{
		"broken_answers_total", "requests_in_flight", "hubspot_wait_seconds", "own_seconds",
		"second_tries_total outcome=accepted", "second_tries_total outcome=rejected", "second_tries_total outcome=failed",
		"second_tries_total outcome=no_credential", "second_tries_total outcome=body_too_long",
		"hubspot_rate_limited_total policy=TEN_SECONDLY_ROLLING", "hubspot_rate_limited_total policy=SECONDLY",
		"hubspot_rate_limited_total policy=DAILY", "hubspot_rate_limited_total policy=other",
		requests("read", "2xx", "hubspot", ""), requests("write", "5xx", "hubspot", ""), requests("read", "499", "nobody", ""),
	} {
		if value, has := series[name]; !has || value != 0 {
			t.Errorf("%s is %v, %t", name, value, has)
		}
	}
}

func TestAProxyWithoutRegistryOrActivityServes(t *testing.T) {
	r := startKinds(t, setup{proxy: func(o *proxy.Options) { o.Metrics, o.Activity = nil, nil }})
	if got := r.answerTo(head()); got.StatusCode != http.StatusOK {
		t.Errorf("status %d", got.StatusCode)
	}
}

func TestAPortalNearItsDailyLimitIsCounted(t *testing.T) {
	set, _ := upstream(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-HubSpot-RateLimit-Daily", "1000")
		w.Header().Set("X-HubSpot-RateLimit-Daily-Remaining", "99")
	})
	r := start(t, setup{proxy: set})
	r.seed(portalID, tokens.AccessToken, staticToken)
	r.answerTo(head())
	if got := r.counted()["portals_near_daily_limit"]; got != 1 {
		t.Errorf("%v portals", got)
	}
}

func TestMethodsAndStatusesAreCountedByClass(t *testing.T) {
	set, _ := upstream(t, func(w http.ResponseWriter, q *http.Request) {
		var status int
		_, _ = fmt.Sscanf(q.URL.Path, "/%d", &status)
		w.WriteHeader(status)
	})
	r := start(t, setup{proxy: set})
	r.seed(portalID, tokens.AccessToken, staticToken)
	want := map[string]float64{}
	for method, class := range map[string]string{
		"GET": "read", "HEAD": "read", "OPTIONS": "read", "POST": "write", "PUT": "write", "PATCH": "write", "DELETE": "write",
		"PURGE": "other", "get": "other", "TRACE": "other",
	} {
		for status, of := range map[int]string{200: "2xx", 299: "2xx", 304: "3xx", 404: "4xx", 477: "4xx", 500: "5xx", 999: "5xx"} {
			r.answerTo(fmt.Sprintf("%s /%d HTTP/1.1\r\nHost: localhost\r\n\r\n", method, status))
			if method == "TRACE" {
				want[requests("other", "4xx", "proxy", "METHOD_REFUSED")]++
				continue
			}
			want[requests(class, of, "hubspot", "")]++
			want["own_seconds"]++
			want["hubspot_wait_seconds"]++
		}
	}
	if diff := cmp.Diff(want, r.counted()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWhatTheServerItselfRefusesIsNotCounted(t *testing.T) {
	r := startKinds(t, setup{})
	for _, request := range []string{
		"GET /a HTTP/1.1\r\n\r\n", "nonsense of length\r\n\r\n", "GET /a HTTP/3.0\r\nHost: localhost\r\n\r\n",
		head("X-Long: " + strings.Repeat("x", 200<<10)),
	} {
		if got := r.rawAnswer(request); !slices.Contains([]string{"400", "431", "505"}, strings.Fields(got + " - -")[1]) {
			t.Errorf("%.40q was answered %.40q", request, got)
		}
	}
	if series := r.counted(); len(series) > 0 {
		t.Error(series)
	}
}

// nowhere is an upstream that no request is sent to.
var nowhere = &url.URL{Scheme: "http", Host: "127.0.0.1:1"}
