package proxy

import (
	"math"
	"net/http"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hubspot-auth-proxy/proxy/budget"
	"hubspot-auth-proxy/tokens"
)

// remaining is a metric: the lowest number of remaining calls that HubSpot reported for any
// portal within the last one to two minutes. It is not exposed if HubSpot reported none. The
// zero value is ready to use. It is safe for concurrent use, and takes no lock.
type remaining struct {
	// minutes has the current and the previous minute, each at the index of its number
	// (minutes since 1970) modulo 2. The upper 32 bits of an element are that number,
	// the lower 32 bits the lowest value.
	minutes [2]atomic.Uint64
}

// see records a value of X-HubSpot-RateLimit-Remaining. A malformed value is ignored.
func (r *remaining) see(value string) {
	left, err := strconv.ParseUint(value, 10, 32)
	if err != nil {
		return
	}
	minute := currentMinute()
	slot := &r.minutes[minute%2]
	for {
		held := slot.Load()
		if held>>32 == minute && held&math.MaxUint32 <= left {
			return
		}
		if slot.CompareAndSwap(held, minute<<32|left) {
			return
		}
	}
}

// lowest returns the lowest value of the last one to two minutes.
func (r *remaining) lowest() (left uint64, seen bool) {
	minute := currentMinute()
	left = math.MaxUint64
	for i := range r.minutes {
		held := r.minutes[i].Load()
		if age := minute - held>>32; age <= 1 {
			left, seen = min(left, held&math.MaxUint32), true
		}
	}
	return left, seen
}

func currentMinute() uint64 { return uint64(time.Now().Unix() / 60) }

var remainingDesc = prometheus.NewDesc(tokens.MetricPrefix+"hubspot_rate_limit_remaining",
	"The lowest X-HubSpot-RateLimit-Remaining of any portal within the last one to two minutes.", nil, nil)

// Describe implements prometheus.Collector.
func (r *remaining) Describe(to chan<- *prometheus.Desc) { to <- remainingDesc }

// Collect implements prometheus.Collector.
func (r *remaining) Collect(to chan<- prometheus.Metric) {
	if left, seen := r.lowest(); seen {
		to <- prometheus.MustNewConstMetric(remainingDesc, prometheus.GaugeValue, float64(left))
	}
}

// policies are the names of HubSpot's rate limits, as its 429 answers give them.
var policies = []string{budget.PolicyBurst, budget.PolicySecond, budget.PolicyDaily}

// otherPolicy is the label for all other names.
const otherPolicy = "other"

// policyOf returns the label for the limit that a 429 names, and nothing for another
// status.
func policyOf(status int, e apiError) string {
	switch {
	case status != http.StatusTooManyRequests:
		return ""
	case slices.Contains(policies, e.PolicyName):
		return e.PolicyName
	default:
		return otherPolicy
	}
}
