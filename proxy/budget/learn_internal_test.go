package budget

import (
	"fmt"
	"net/http"
	"testing"
	"time"
)

func TestWhatIsLearnedIsBounded(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		limit, interval string
		want            int
		wantInterval    time.Duration
	}{
		{"190", "10000", 190, 10 * time.Second},
		{"1", "1000", 1, time.Second},
		{"999999999", "10000", 10_000, 10 * time.Second},
		{"190", "1", 190, time.Second},
		{"190", "9223372036854775807", 190, time.Minute},
		{"0", "10000", 100, 10 * time.Second},
		{"-5", "10000", 100, 10 * time.Second},
		{"190", "0", 100, 10 * time.Second},
		{"190", "-1", 100, 10 * time.Second},
		{"1e3", "10000", 100, 10 * time.Second},
		{"99999999999999999999", "10000", 100, 10 * time.Second},
		{"", "10000", 100, 10 * time.Second},
		{"190", "", 100, 10 * time.Second},
	} {
		t.Run(fmt.Sprintf("%s in %s", tt.limit, tt.interval), func(t *testing.T) {
			w := newWindow(&process{began: time.Now()}, windowKey{portal: "1"})
			header := http.Header{"X-Hubspot-Ratelimit-Max": {tt.limit}, "X-Hubspot-Ratelimit-Interval-Milliseconds": {tt.interval}, "X-Hubspot-Ratelimit-Remaining": {"0"}}
			Turn{window: w}.Answered(header, time.Now())
			if w.limit != tt.want || w.interval != tt.wantInterval {
				t.Errorf("%d in %v", w.limit, w.interval)
			}
		})
	}
}

func TestWhatIsLeftIsTakenInOnlyIfItCanBe(t *testing.T) {
	t.Parallel()
	for left, want := range map[string]int{"90": 100, "0": 190, "190": 0, "191": 0, "-1": 0, "": 0, "x": 0, "1e2": 0, "99999999999999999999": 0} {
		w := newWindow(&process{began: time.Now()}, windowKey{portal: "1"})
		header := http.Header{"X-Hubspot-Ratelimit-Max": {"190"}, "X-Hubspot-Ratelimit-Interval-Milliseconds": {"10000"}, "X-Hubspot-Ratelimit-Remaining": {left}}
		Turn{window: w}.Answered(header, time.Now())
		if w.observed.counted != want {
			t.Errorf("%q left: HubSpot counts %d", left, w.observed.counted)
		}
	}
}

// Answers to searches have no headers of their own limit.
func TestNothingIsLearnedFromSearches(t *testing.T) {
	t.Parallel()
	w := newWindow(&process{began: time.Now()}, windowKey{portal: "1", search: true})
	Turn{window: w}.Answered(http.Header{"X-Hubspot-Ratelimit-Max": {"190"}, "X-Hubspot-Ratelimit-Interval-Milliseconds": {"10000"}}, time.Now())
	if w.limit != 5 || w.interval != time.Second {
		t.Errorf("%d in %v", w.limit, w.interval)
	}
}

func TestTurnsGoRoundTheClients(t *testing.T) {
	t.Parallel()
	var q queue
	for range 3 {
		q.enter("bulk", false, 0)
	}
	q.enter("slow", false, 0)
	left := q.enter("gone", false, 0)
	if !q.leave(left) || q.leave(left) || q.waiting != 4 {
		t.Errorf("%d wait", q.waiting)
	}
	q.enter("bulk", true, 0) // its call goes before the others of its client
	order := ""
	for w := q.next(); w != nil; w = q.next() {
		order += w.client.name + " "
		if w.client.name == "slow" && q.served == 2 {
			q.enter("new", false, 0) // it has had no turn yet
		}
	}
	if want := "bulk slow new bulk bulk bulk "; order != want {
		t.Errorf("%q, want %q", order, want)
	}
}
