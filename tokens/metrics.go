package tokens

import (
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"hubspot-auth-proxy/tokens/hubspot"
	"hubspot-auth-proxy/tokens/store"
)

// The outcomes of renewals and of calls of the token endpoint.
const (
	outcomeRenewed   = "renewed"   // a token call of this process has renewed the portal
	outcomeAdopted   = "adopted"   // another replica had renewed the portal
	outcomeOK        = "ok"        // the call returned a token
	outcomeEnded     = "ended"     // HubSpot refuses the grant
	outcomeRefused   = "refused"   // HubSpot refuses the app
	outcomeThrottled = "throttled" // HubSpot answered 429
	outcomeFailed    = "failed"    // any other error
)

// metrics are the metrics of a source. Requests that are served from the cache do not update
// them.
type metrics struct {
	renewals, tokenCalls  *prometheus.CounterVec
	renewalTime, callTime prometheus.Histogram
}

// newMetrics registers a source's metrics. The functions are called when the metrics are read:
// portals counts the held records for which is returns true, records returns the numbers of
// records in each state, and unsaved counts the portals that are not stored yet.
func newMetrics(registry prometheus.Registerer, health *store.Health, portals func(is func(*held) bool) float64, records func() Counts, unsaved func() int) *metrics {
	factory := promauto.With(registry)
	counter := func(name, help string, count *atomic.Int64) {
		factory.NewCounterFunc(prometheus.CounterOpts{Name: MetricPrefix + name, Help: help}, func() float64 { return float64(count.Load()) })
	}
	outcomes := func(name, help string, outcomes ...string) *prometheus.CounterVec {
		vec := factory.NewCounterVec(prometheus.CounterOpts{Name: MetricPrefix + name, Help: help}, []string{"outcome"})
		for _, outcome := range outcomes {
			vec.WithLabelValues(outcome) // rate() needs the series from the start
		}
		return vec
	}
	seconds := func(name, help string) prometheus.Histogram {
		return factory.NewHistogram(prometheus.HistogramOpts{Name: MetricPrefix + name, Help: help,
			Buckets: []float64{0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15}})
	}
	gauge := func(name, help string, value func() float64) {
		factory.NewGaugeFunc(prometheus.GaugeOpts{Name: MetricPrefix + name, Help: help}, value)
	}
	m := &metrics{
		renewals: outcomes("renewals_total", "Renewals of access tokens.",
			outcomeRenewed, outcomeAdopted, outcomeEnded, outcomeRefused, outcomeFailed),
		renewalTime: seconds("renewal_seconds", "Time of a renewal, with its calls of Redis and of the token endpoint."),
		tokenCalls: outcomes("token_calls_total", "Calls of HubSpot's token endpoint for renewals.",
			outcomeOK, outcomeEnded, outcomeRefused, outcomeThrottled, outcomeFailed),
		callTime: seconds("token_call_seconds", "Time of a call of HubSpot's token endpoint."),
	}
	counter("redis_calls_total", "Commands to Redis.", &health.Calls)
	counter("redis_errors_total", "Commands to Redis that failed.", &health.Errors)
	gauge("redis_up", "1 if Redis answered when it was last asked.", func() float64 {
		if health.Answered() {
			return 1
		}
		return 0
	})
	gauge("cached_portals", "Portals in this process' cache.", func() float64 {
		return portals(func(h *held) bool { return h.State != Removed })
	})
	gauge("ended_grants", "Portals whose grant HubSpot has ended.", func() float64 { return float64(records()[Ended]) })
	for _, state := range []State{Active, Ended, Rejected, Unusable} {
		factory.NewGaugeFunc(prometheus.GaugeOpts{Name: MetricPrefix + "portals", Help: "Portals by the state of their records; unusable ones are damaged, or do not open.",
			ConstLabels: prometheus.Labels{"state": string(state)}}, func() float64 { return float64(records()[state]) })
	}
	gauge("unsaved_portals", "Portals that were renewed and are not stored in Redis yet.", func() float64 {
		return float64(unsaved())
	})
	return m
}

// MetricPrefix begins the name of every metric of the program.
const MetricPrefix = "hubspot_auth_proxy_"

// renewal counts one renewal. called means that a token call of this process has returned a
// token. A renewal that found the portal removed, or that was postponed, does not count.
func (m *metrics) renewal(began time.Time, called bool, err error) {
	if errors.Is(err, ErrNotConnected) || errors.Is(err, errPostponed) {
		return
	}
	outcome := outcomeAdopted
	_, ended := errors.AsType[*EndedError](err)
	refusal, refused := errors.AsType[*hubspot.Error](err)
	switch {
	case ended:
		outcome = outcomeEnded
	case refused && refusal.Kind == hubspot.AppRefused:
		outcome = outcomeRefused
	case err != nil:
		outcome = outcomeFailed
	case called:
		outcome = outcomeRenewed
	}
	m.renewals.WithLabelValues(outcome).Inc()
	m.renewalTime.Observe(time.Since(began).Seconds())
}

// tokenCall counts one call of the token endpoint. refusal is nil if the call returned a token.
func (m *metrics) tokenCall(began time.Time, refusal *hubspot.Error) {
	outcome := outcomeFailed
	switch {
	case refusal == nil:
		outcome = outcomeOK
	case refusal.Kind == hubspot.GrantEnded:
		outcome = outcomeEnded
	case refusal.Kind == hubspot.AppRefused:
		outcome = outcomeRefused
	case refusal.Status == http.StatusTooManyRequests:
		outcome = outcomeThrottled
	}
	m.tokenCalls.WithLabelValues(outcome).Inc()
	m.callTime.Observe(time.Since(began).Seconds())
}
