package main

import (
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"hubspot-auth-proxy/tokens/hubspottest"
)

// ownMetrics is the prefix of the program's own metrics.
const ownMetrics = "hubspot_auth_proxy_"

// scrape reads and parses /metrics, as Prometheus does.
func scrape(t *testing.T, admin string) (families map[string]*dto.MetricFamily, text string) {
	t.Helper()
	status, text := get(t, "http://"+admin+"/metrics")
	if status != http.StatusOK {
		t.Fatalf("metrics: status %d", status)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return families, text
}

// value returns the sum of the metric's samples with these labels, given as "name=value". For a
// histogram it is the number of observations.
func value(families map[string]*dto.MetricFamily, name string, labels ...string) (sum float64) {
	for _, metric := range families[ownMetrics+name].GetMetric() {
		has := func(label string) bool {
			return slices.ContainsFunc(metric.GetLabel(), func(pair *dto.LabelPair) bool {
				return pair.GetName()+"="+pair.GetValue() == label
			})
		}
		if slices.ContainsFunc(labels, func(label string) bool { return !has(label) }) {
			continue
		}
		sum += metric.GetCounter().GetValue() + metric.GetGauge().GetValue() + float64(metric.GetHistogram().GetSampleCount())
	}
	return sum
}

func TestMetricsOfAProcessCountItsTraffic(t *testing.T) {
	t.Parallel()
	hub := hubspottest.NewServer()
	defer hub.Close()
	admin := freePort(t)
	p := launch(t, "serve", append(oauth(hub), "ADMIN_ADDR="+admin)...)
	base := "http://" + p.address()
	for range 3 {
		_, _ = get(t, base+"/crm/v3/objects/contacts")
	}
	_, _ = get(t, base+"/fake/status?code=404")
	_, _ = get(t, base+"/fake/status?code=429")
	_, _ = get(t, base+"/fake/reset?hapikey="+hubspottest.Canary)
	_, _ = get(t, base+"/portals/62599/"+hubspottest.Canary)
	hub.Expire("62515")
	response, err := http.Post(base+"/crm/v3/objects/contacts", "text/plain", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()

	families, text := scrape(t, admin)
	for _, tt := range []struct {
		want   float64
		metric string
		labels []string
	}{
		{8, "requests_total", nil},
		{3, "requests_total", []string{"method=read", "status=2xx", "answered_by=hubspot", "category="}},
		{2, "requests_total", []string{"method=read", "status=4xx", "answered_by=hubspot"}},
		{1, "requests_total", []string{"method=read", "status=5xx", "answered_by=proxy", "category=UPSTREAM_UNREACHABLE"}},
		{1, "requests_total", []string{"method=read", "status=4xx", "answered_by=proxy", "category=PORTAL_NOT_CONNECTED"}},
		{1, "requests_total", []string{"method=write", "status=2xx", "answered_by=hubspot"}},
		{0, "requests_in_flight", nil},
		{7, "hubspot_wait_seconds", nil}, // one request was sent twice, and the one that was reset has no answer
		{1, "hubspot_rate_limited_total", nil},
		{1, "second_tries_total", []string{"outcome=accepted"}},
		{1, "second_tries_total", nil},
		{2, "renewals_total", []string{"outcome=renewed"}},
		{2, "renewal_seconds", nil},
		{2, "token_calls_total", []string{"outcome=ok"}},
		{2, "token_call_seconds", nil},
		{1, "redis_up", nil},
		{0, "redis_errors_total", nil},
		{1, "cached_portals", nil},
		{1, "portals", []string{"state=active"}},
		{0, "ended_grants", nil},
		{0, "unsaved_portals", nil},
		{0, "expiring_client_keys", nil},
		{0, "faulty_seeds", nil},
		{1, "build_info", nil},
	} {
		if _, has := families[ownMetrics+tt.metric]; !has {
			t.Errorf("%s is not exposed", tt.metric)
		} else if got := value(families, tt.metric, tt.labels...); got != tt.want {
			t.Errorf("%s%q is %v, want %v", tt.metric, tt.labels, got, tt.want)
		}
	}
	for _, name := range []string{"go_goroutines", "process_resident_memory_bytes"} {
		if families[name] == nil {
			t.Errorf("%s is not exposed", name)
		}
	}
	if strings.Contains(text, hubspottest.Canary) || strings.Contains(text, "62515") {
		t.Errorf("a secret or a portal is in the metrics:\n%s", text)
	}
	tidy(t, families, text)
}

// tidy checks that names and help texts follow the rules of Prometheus.
func tidy(t *testing.T, families map[string]*dto.MetricFamily, text string) {
	t.Helper()
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		if strings.HasPrefix(problem.Metric, ownMetrics) {
			t.Errorf("%s: %s", problem.Metric, problem.Text)
		}
	}
	unitless := []string{"build_info", "requests_in_flight", "hubspot_rate_limit_remaining", "redis_up", "portals", "cached_portals", "ended_grants", "unsaved_portals", "expiring_client_keys", "faulty_seeds", "turns_waiting", "portals_near_daily_limit"}
	unit := regexp.MustCompile(`_(total|seconds|bytes)$`)
	for name, family := range families {
		own, is := strings.CutPrefix(name, ownMetrics)
		if !is {
			continue
		}
		if family.GetHelp() == "" {
			t.Errorf("%s has no help", name)
		}
		if plain := family.GetType() == dto.MetricType_GAUGE && slices.Contains(unitless, own); !plain && !unit.MatchString(name) {
			t.Errorf("%s does not say its unit", name)
		}
	}
}
