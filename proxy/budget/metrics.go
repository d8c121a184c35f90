package budget

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"hubspot-auth-proxy/tokens"
)

// metrics are the Prometheus metrics of a budget, except the metric of [Usage].
type metrics struct {
	waits    prometheus.Histogram
	refused  *prometheus.CounterVec
	rejected prometheus.Counter
}

// The values of the label reason: why a call was refused.
const (
	reasonWait  = "wait"         // no turn in time
	reasonFull  = "queue"        // too many calls of the client wait
	reasonDaily = "client_daily" // the client's own daily limit
)

func newMetrics(to prometheus.Registerer, waiting *atomic.Int64) *metrics {
	auto := promauto.With(to)
	m := &metrics{
		waits: auto.NewHistogram(prometheus.HistogramOpts{
			Name:    tokens.MetricPrefix + "turn_wait_seconds",
			Help:    "How long calls have waited for their turn within HubSpot's rate limits, of those that had to wait and got one.",
			Buckets: []float64{.001, .005, .025, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}),
		refused: auto.NewCounterVec(prometheus.CounterOpts{
			Name: tokens.MetricPrefix + "turns_refused_total",
			Help: "Calls that were answered 429 RATE_LIMITED, by reason: wait (no turn within RATE_LIMIT_WAIT), queue (too many calls of the client wait), client_daily (the client's daily_limit).",
		}, []string{"reason"}),
		rejected: auto.NewCounter(prometheus.CounterOpts{
			Name: tokens.MetricPrefix + "bursts_rejected_total",
			Help: "Calls that had a turn, and that HubSpot answered 429 for a burst all the same.",
		}),
	}
	for _, reason := range []string{reasonWait, reasonFull, reasonDaily} {
		m.refused.WithLabelValues(reason)
	}
	auto.NewGaugeFunc(prometheus.GaugeOpts{
		Name: tokens.MetricPrefix + "turns_waiting",
		Help: "Calls that wait for their turn.",
	}, func() float64 { return float64(waiting.Load()) })
	return m
}

// waited counts a call that had to wait, by the result.
func (m *metrics) waited(took time.Duration, err error) {
	refused := (*RefusedError)(nil)
	switch {
	case err == nil:
		m.waits.Observe(took.Seconds())
	case errors.As(err, &refused) && refused.Full:
		m.refused.WithLabelValues(reasonFull).Inc()
	case errors.As(err, &refused):
		m.refused.WithLabelValues(reasonWait).Inc()
	}
}
