package proxy

import (
	"net/http"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"hubspot-auth-proxy/proxy/activity"
	"hubspot-auth-proxy/tokens"
)

// metrics are the proxy's Prometheus metrics. All label values are from closed sets: never
// a path, a portal, or text that a client or HubSpot can choose.
//
// Requests that net/http's server refuses before it calls the handler (400, 431, 501 and
// 505, in plain text) are neither counted nor in the access log.
type metrics struct {
	requests    *prometheus.CounterVec
	broken      prometheus.Counter
	wait, own   prometheus.Histogram
	secondTries *prometheus.CounterVec
	rateLimited *prometheus.CounterVec
	remaining   remaining
}

// Values of the label outcome: how the second try of a request ended after a 401.
const (
	tryAccepted   = "accepted"      // HubSpot's second answer was not a 401
	tryRejected   = "rejected"      // HubSpot's second answer was a 401 too
	tryFailed     = "failed"        // HubSpot gave no second answer
	tryCredential = "no_credential" // not sent again, because there was no other credential
	tryBody       = "body_too_long" // not sent again, because too much of the body was read
)

// newMetrics registers the metrics. Series that alerts use exist from the start with value
// 0, because Prometheus sees no increase when a series first appears with value 1.
func newMetrics(to prometheus.Registerer, underWay *atomic.Int64, seen *activity.Log) *metrics {
	const prefix = tokens.MetricPrefix
	auto := promauto.With(to)
	m := &metrics{
		requests: auto.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "requests_total",
			Help: "Requests that have ended, by method (read, write, other), class of status (499 means that the client left), who answered (hubspot, proxy, nobody), and category of the proxy's own answers.",
		}, []string{"method", "status", "answered_by", "category"}),
		broken: auto.NewCounter(prometheus.CounterOpts{
			Name: prefix + "broken_answers_total",
			Help: "Answers that HubSpot broke off after their header.",
		}),
		wait: auto.NewHistogram(prometheus.HistogramOpts{
			Name:    prefix + "hubspot_wait_seconds",
			Help:    "Time from sending a request, including its body, until the header of HubSpot's answer, for each try that was answered.",
			Buckets: []float64{.025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120},
		}),
		own: auto.NewHistogram(prometheus.HistogramOpts{
			Name:    prefix + "own_seconds",
			Help:    "Time that the proxy itself took for a request that HubSpot answered: from its arrival until the header of the answer, including waiting for a credential, without waiting for HubSpot.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .1, .5, 1, 2.5, 10},
		}),
		secondTries: auto.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "second_tries_total",
			Help: "Requests that HubSpot answered 401, by how the second try ended.",
		}, []string{"outcome"}),
		rateLimited: auto.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "hubspot_rate_limited_total",
			Help: "HubSpot's 429 answers that reached clients, by the limit that they name.",
		}, []string{"policy"}),
	}
	auto.NewGaugeFunc(prometheus.GaugeOpts{
		Name: prefix + "requests_in_flight",
		Help: "Requests under way.",
	}, func() float64 { return float64(underWay.Load()) })
	auto.NewGaugeFunc(prometheus.GaugeOpts{
		Name: prefix + "portals_near_daily_limit",
		Help: "Portals of this process that have less than a tenth left of HubSpot's daily limit, by its headers of the last day.",
	}, func() float64 { return float64(seen.NearDailyLimit()) })
	if to != nil {
		to.MustRegister(&m.remaining)
	}
	m.beginAtZero()
	return m
}

// countTunnels registers the gauge of open tunnels.
func countTunnels(to prometheus.Registerer, open func() int64) {
	promauto.With(to).NewGaugeFunc(prometheus.GaugeOpts{
		Name: "hubspot_auth_proxy_tunnels",
		Help: "Tunnels of intercepted clients that are open.",
	}, func() float64 { return float64(open()) })
}

func (m *metrics) beginAtZero() {
	for _, method := range []string{"read", "write"} {
		for _, status := range []string{"2xx", "3xx", "4xx", "5xx"} {
			m.requests.WithLabelValues(method, status, "hubspot", "")
		}
		m.requests.WithLabelValues(method, "499", "nobody", "")
		m.requests.WithLabelValues(method, "499", "hubspot", "")
		for category, status := range statuses {
			m.requests.WithLabelValues(method, statusClass(status), "proxy", category)
		}
	}
	for _, outcome := range []string{tryAccepted, tryRejected, tryFailed, tryCredential, tryBody} {
		m.secondTries.WithLabelValues(outcome)
	}
	for _, policy := range append([]string{otherPolicy}, policies...) {
		m.rateLimited.WithLabelValues(policy)
	}
}

// count counts a request that has ended.
func (m *metrics) count(o *outcome) {
	m.requests.WithLabelValues(methodClass(o.method), statusClass(o.status), o.answeredBy, o.category).Inc()
	if o.answeredBy != "hubspot" {
		return
	}
	m.own.Observe(o.own.Seconds())
	m.remaining.see(o.remaining)
	if o.policy != "" {
		m.rateLimited.WithLabelValues(o.policy).Inc()
	}
}

func (m *metrics) secondTry(outcome string) { m.secondTries.WithLabelValues(outcome).Inc() }

func methodClass(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return "read"
	case http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete:
		return "write"
	}
	return "other"
}

// statusClass returns the class of a status. An invalid status counts as 5xx.
func statusClass(status int) string {
	switch {
	case status == statusGone:
		return "499"
	case status >= 200 && status < 300:
		return "2xx"
	case status >= 300 && status < 400:
		return "3xx"
	case status >= 400 && status < 500:
		return "4xx"
	}
	return "5xx"
}
