package tokens

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A refused grant is tried after 1 minute, 10 minutes, 1 hour, then every 6
// hours for a week.
func TestTheScheduleOfAnEndedGrantsTries(t *testing.T) {
	ended := time.UnixMilli(1_700_000_000_000)
	var got []time.Duration
	for last := ended; ; {
		next := nextTry(ended, last)
		if next.IsZero() {
			break
		}
		got = append(got, next.Sub(ended))
		last = next
	}
	want := []time.Duration{time.Minute, 10 * time.Minute}
	for at := time.Hour; at <= 7*24*time.Hour; at += 6 * time.Hour {
		want = append(want, at)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, c := range []struct{ last, want time.Duration }{
		{59 * time.Second, time.Minute},
		{9 * time.Minute, 10 * time.Minute}, // the portal was not called in between
		{59*time.Minute + 59*time.Second, time.Hour},
		{time.Hour + time.Second, 7 * time.Hour},
		{8 * time.Hour, 13 * time.Hour},
		{-time.Hour, time.Minute}, // the clock was set back
	} {
		if got := nextTry(ended, ended.Add(c.last)).Sub(ended); got != c.want {
			t.Errorf("after %v comes %v, want %v", c.last, got, c.want)
		}
	}
	if next := nextTry(ended, ended.Add(163*time.Hour)); !next.IsZero() {
		t.Errorf("a try at %v", next.Sub(ended))
	}
}
