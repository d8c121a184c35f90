package proxy

import (
	"testing"
	"time"
)

func TestPortalsNearTheirDailyLimitAreCountedForADay(t *testing.T) {
	var n nearDaily
	now := time.Now()
	n.see("1", "1000", "100", now)
	for _, left := range []string{"", "x", "-1"} {
		n.see("2", "1000", left, now)
	}
	n.see("3", "0", "0", now)
	if got := n.count(now); got != 0 {
		t.Errorf("%d portals", got)
	}
	n.see("1", "1000", "99", now)
	n.see("1", "1000", "98", now)
	n.see("2", "1000", "0", now.Add(-25*time.Hour))
	if got := n.count(now); got != 1 {
		t.Errorf("%d portals", got)
	}
	n.see("1", "1000", "900", now)
	if got := n.count(now); got != 0 {
		t.Errorf("%d portals", got)
	}
}
