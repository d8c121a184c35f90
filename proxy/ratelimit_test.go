package proxy

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hubspot-auth-proxy/proxy/activity"
)

func TestTheLowestRemainingIsOfTheLastMinuteAtLeastAndTwoAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // begins with a minute
		r := new(remaining)
		want := func(want uint64, seen bool) {
			t.Helper()
			if got, is := r.lowest(); is != seen || is && got != want {
				t.Errorf("%s: %d, %t; want %d, %t", time.Now().Format(time.TimeOnly), got, is, want, seen)
			}
		}
		want(0, false)
		for _, value := range []string{"", "many", "-1", "1.5", "99999999999", "18446744073709551616"} {
			r.see(value)
		}
		want(0, false)
		r.see("7")
		r.see("9")
		want(7, true)
		time.Sleep(59 * time.Second)
		r.see("0") // in the last second of the first minute
		time.Sleep(time.Second)
		r.see("5")
		want(0, true)
		time.Sleep(59 * time.Second)
		want(0, true)
		time.Sleep(time.Second)
		want(5, true)
		r.see("8") // in the place of the first minute's
		want(5, true)
		time.Sleep(time.Minute)
		want(8, true)
		time.Sleep(time.Minute)
		want(0, false)
	})
}

func TestNoLowestRemainingIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := new(remaining)
		var work sync.WaitGroup
		for i := range 20 {
			work.Go(func() {
				for range 500 {
					r.see("100")
					r.see(string(rune('5' + i%5)))
				}
			})
		}
		work.Go(func() { r.see("3") })
		work.Wait()
		if got, _ := r.lowest(); got != 3 {
			t.Errorf("got %d", got)
		}
	})
}

func TestTheLowestRemainingIsNotExposedUntilSeen(t *testing.T) {
	registry := prometheus.NewRegistry()
	m := newMetrics(registry, new(atomic.Int64), activity.New(nil))
	exposed := func() (values []float64) {
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, family := range families {
			if family.GetName() == "hubspot_auth_proxy_hubspot_rate_limit_remaining" {
				values = append(values, family.GetMetric()[0].GetGauge().GetValue())
			}
		}
		return values
	}
	if values := exposed(); values != nil {
		t.Errorf("exposed as %v", values)
	}
	m.remaining.see("42")
	if values := exposed(); len(values) != 1 || values[0] != 42 {
		t.Errorf("exposed as %v", values)
	}
}
