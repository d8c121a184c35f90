package admin_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/secret"
)

func TestMetricsRequireNoPassword(t *testing.T) {
	registry := prometheus.NewRegistry()
	requests := prometheus.NewCounter(prometheus.CounterOpts{Name: "hubspot_auth_proxy_requests_total", Help: "x"})
	registry.MustRegister(requests)
	requests.Add(3)
	for _, text := range []string{"", password} {
		r := newRig(t, func(r *rig) {
			r.options.Loopback = false
			r.options.Metrics = registry
			r.options.Password = secret.New(text)
		})
		a := r.get("/metrics")
		if a.StatusCode != http.StatusOK || !strings.HasPrefix(a.Header.Get("Content-Type"), "text/plain") || !strings.Contains(a.body, "\nhubspot_auth_proxy_requests_total 3\n") {
			t.Errorf("%d %v %s", a.StatusCode, a.Header, a.body)
		}
	}
	r := newRig(t, nil)
	if a := r.get("/metrics"); a.StatusCode != http.StatusNotFound {
		t.Errorf("without any: %d", a.StatusCode)
	}
}

// broken is a collector of a metric that cannot be gathered.
type broken struct{ why error }

func (broken) Describe(chan<- *prometheus.Desc) {}

func (b broken) Collect(metrics chan<- prometheus.Metric) {
	metrics <- prometheus.NewInvalidMetric(prometheus.NewDesc("broken", "x", nil, nil), b.why)
}

type failure string

func (f failure) Error() string { return string(f) }

func TestMetricsThatFailHideNoOthersAndNoErrorIsShown(t *testing.T) {
	const why = failure("label value 4711")
	registry := prometheus.NewRegistry()
	registry.MustRegister(broken{why})
	r := newRig(t, func(r *rig) { r.options.Metrics = registry })
	alone := r.get("/metrics")
	if alone.StatusCode != http.StatusInternalServerError || strings.Contains(alone.body, "4711") {
		t.Errorf("alone: %d %s", alone.StatusCode, alone.body)
	}
	registry.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "good", Help: hubspottest.ClientID}))
	a := r.get("/metrics")
	if a.StatusCode != http.StatusOK || !strings.Contains(a.body, "\ngood 0\n") || strings.Contains(a.body, "4711") {
		t.Errorf("beside others: %d %s", a.StatusCode, a.body)
	}
	if n := r.logs.FilterMessageSnippet("metrics").Len(); n != 2 || !strings.Contains(r.logged.String(), "4711") {
		t.Errorf("logged %d lines: %s", n, r.logged)
	}
}
