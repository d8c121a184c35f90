package tokens

import (
	"math/rand/v2"
	"sync"
	"time"
)

const (
	firstPause = 500 * time.Millisecond
	mostPause  = 30 * time.Second

	// longestPause bounds what HubSpot asks for by Retry-After, so that a slip
	// of its does not keep a portal from recovering.
	longestPause = 5 * time.Minute
)

// pause is a time without calls of the token endpoint, after one that failed.
// The zero value is no pause.
type pause struct {
	until    time.Time
	failures int
	err      error
}

// extend begins a pause: as long as HubSpot asked for, else longer after each
// failure, and not the same in all replicas. It returns how long.
func (p *pause) extend(now time.Time, retryAfter time.Duration, err error) time.Duration {
	wait := min(retryAfter, longestPause)
	if wait <= 0 {
		wait = min(firstPause<<min(p.failures, 10), mostPause)
		wait = jitter(wait/2, wait)
	}
	p.until, p.err = now.Add(wait), err
	p.failures++
	return wait
}

// check returns nil, or an error for the portal while the pause lasts.
func (p *pause) check(portal string, now time.Time) error {
	if left := p.until.Sub(now); left > 0 {
		return unavailable(portal, left, p.err)
	}
	return nil
}

// appPause is a pause of all portals: HubSpot throttles by app, and refuses a
// wrong client secret to all alike. Safe for concurrent use.
type appPause struct {
	mu sync.Mutex
	pause
}

// jitter returns a random duration from low to high.
func jitter(low, high time.Duration) time.Duration {
	if high <= low {
		return low
	}
	return low + rand.N(high-low)
}
