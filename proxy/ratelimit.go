package proxy

import (
	"math"
	"net/http"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hubspot-auth-proxy/tokens"
)

// remaining is the lowest number of calls left that HubSpot has told of any
// portal within the last one to two minutes. It is a metric, which is not
// exposed while nothing was told. The zero value is ready; nobody waits for a
// lock.
type remaining struct {
	// The current minute and the one before, at the index of its number since
	// 1970 modulo two: that number in the upper half, the lowest in the lower.
	minutes [2]atomic.Uint64
}

// see notes a value of X-HubSpot-RateLimit-Remaining, if it is one.
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

// lowest returns the lowest value that was seen of late.
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

// policies are HubSpot's limits of calls, as its 429s name them.
var policies = []string{"TEN_SECONDLY_ROLLING", "SECONDLY", "DAILY"}

// otherPolicy stands for all that a 429 may name else.
const otherPolicy = "other"

// policyOf returns which limit of HubSpot's a 429 names, from the beginning of its
// body.
func policyOf(body []byte, header http.Header) string {
	policy := parseError(body, header).PolicyName
	if slices.Contains(policies, policy) {
		return policy
	}
	return otherPolicy
}
