package proxy

import (
	"maps"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// nearDaily has the portals that have less than a tenth of HubSpot's daily limit left. The
// zero value is ready to use. A nearDaily is safe for concurrent use.
type nearDaily struct {
	any atomic.Bool // there may be portals

	mu      sync.Mutex
	portals map[string]time.Time // when the portal was last seen near its limit
}

// dailyMemory is how long nearDaily keeps a portal that has no further calls. HubSpot's
// limit begins anew after a day.
const dailyMemory = 24 * time.Hour

// see records the values of X-HubSpot-RateLimit-Daily and -Daily-Remaining, if both are
// valid.
func (n *nearDaily) see(portal, limit, left string, now time.Time) {
	most, err := strconv.ParseInt(limit, 10, 64)
	rest, err2 := strconv.ParseInt(left, 10, 64)
	if err != nil || err2 != nil || most < 1 || rest < 0 {
		return
	}
	near := rest < most/10
	if !near && !n.any.Load() {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if !near {
		delete(n.portals, portal)
		return
	}
	if n.portals == nil {
		n.portals = make(map[string]time.Time)
	}
	n.portals[portal] = now
	n.any.Store(true)
}

// count returns the number of portals near their daily limit.
func (n *nearDaily) count(now time.Time) int {
	if !n.any.Load() {
		return 0
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	maps.DeleteFunc(n.portals, func(_ string, seen time.Time) bool { return now.Sub(seen) > dailyMemory })
	return len(n.portals)
}
