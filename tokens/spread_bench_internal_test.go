package tokens

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"hubspot-auth-proxy/tokens/store"
)

// BenchmarkRenewalsSpread reports how many of 1,000 portals that were connected within one minute are
// renewed in the busiest second: the first time, and after a day. If renewals were spread evenly over
// the life of a token, it would be less than one.
func BenchmarkRenewalsSpread(b *testing.B) {
	const portals, life = 1000, 30 * time.Minute
	s := &Source{options: Options{RefreshAhead: 5 * time.Minute}}
	begin := time.Unix(0, 0)
	for b.Loop() {
		given := make([]time.Time, portals)
		for i := range given {
			given[i] = begin.Add(rand.N(time.Minute))
		}
		for round := 1; round <= 57; round++ { // of 25 minutes or so
			seconds := make(map[int64]int)
			busiest := 0
			for i, at := range given {
				given[i] = s.renewAt(store.Record{RenewedAt: at, ExpiresAt: at.Add(life)}, at)
				second := given[i].Unix()
				seconds[second]++
				busiest = max(busiest, seconds[second])
			}
			if round == 1 || round == 57 {
				b.ReportMetric(float64(busiest), fmt.Sprintf("in-busiest-second-of-round-%d", round))
			}
		}
	}
	b.ReportMetric(0, "ns/op")
}
