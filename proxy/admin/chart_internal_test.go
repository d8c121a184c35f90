package admin

import (
	"math"
	"testing"

	"hubspot-auth-proxy/proxy/activity"
)

func TestTheChartStaysInItsFrameWhateverIsCounted(t *testing.T) {
	minutes := make([]activity.Minute, 60)
	copy(minutes, []activity.Minute{{Calls: 1, Errors: 1}, {Calls: 5, Errors: 9}, {Calls: -3, Errors: -1}, {Calls: 7, Errors: -2},
		{Errors: 4}, {Calls: math.MaxInt64 / 4, Errors: 1}})
	c := newChart(minutes)
	if len(c.Bars) != 4 || c.Width != 600 {
		t.Errorf("%+v", c)
	}
	for _, b := range c.Bars {
		if b.Top < 0 || b.Height < leastBar || b.Top+b.Height != chartHeight || b.ErrorsTop+b.Errors != chartHeight || b.Errors > b.Height || b.X+b.Width > c.Width {
			t.Errorf("%+v", b)
		}
	}
	if got := c.Bars[0].Text; got != "59 min ago: 1 call, 1 error" {
		t.Error(got)
	}
}

func TestTheChartIsDescribedInWords(t *testing.T) {
	for _, tt := range []struct {
		minutes []activity.Minute
		want    string
	}{
		{nil, "No calls in the last hour."},
		{[]activity.Minute{{Calls: 1}}, "1 call, no error, at most 1 a minute."},
		{[]activity.Minute{{Calls: 12_345, Errors: 1}, {Calls: 1}}, "12,346 calls, 1 error (less than 0.1 %), at most 12,345 a minute."},
		{[]activity.Minute{{Calls: 100, Errors: 3}, {Calls: 100}}, "200 calls, 3 errors (1.5 %), at most 100 a minute."},
		{[]activity.Minute{{Calls: 3, Errors: 3}}, "3 calls, 3 errors (100 %), at most 3 a minute."},
	} {
		if got := newChart(tt.minutes).Text(); got != tt.want {
			t.Errorf("%v: %s, want %s", tt.minutes, got, tt.want)
		}
	}
}
