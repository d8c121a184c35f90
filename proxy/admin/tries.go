package admin

import (
	"net/netip"
	"sync"
	"time"
)

// An address may try some wrong passwords at once, and then one every while.
const (
	triesAtOnce = 10
	tryEvery    = 5 * time.Second

	// maxTriers is how many addresses are kept in memory.
	maxTriers = 1024
)

// tries counts wrong passwords by the address that they come from, so that
// passwords cannot be tried out, and nobody is kept out by what another address
// does. The zero value has none. It is safe for concurrent use.
type tries struct {
	mu   sync.Mutex
	free map[netip.Prefix]time.Time // when the address has all its tries again
}

// take takes one of the address' tries. If it has none left, it returns how long
// until it has one.
func (t *tries) take(from netip.Prefix, now time.Time) (wait time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	free := t.free[from]
	if free.Before(now) {
		free = now
	}
	free = free.Add(tryEvery)
	if wait := free.Sub(now) - triesAtOnce*tryEvery; wait > 0 {
		return wait
	}
	if t.free == nil {
		t.free = make(map[netip.Prefix]time.Time)
	}
	if _, known := t.free[from]; !known && len(t.free) >= maxTriers {
		t.forgetFreest()
	}
	t.free[from] = free
	return 0
}

// giveBack gives a try back that was taken for the right password.
func (t *tries) giveBack(from netip.Prefix, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if free := t.free[from].Add(-tryEvery); free.After(now) {
		t.free[from] = free
	} else {
		delete(t.free, from)
	}
}

// forgetFreest forgets the address that has most tries left.
func (t *tries) forgetFreest() {
	var freest netip.Prefix
	var at time.Time
	for from, free := range t.free {
		if !freest.IsValid() || free.Before(at) {
			freest, at = from, free
		}
	}
	delete(t.free, freest)
}

// addressOf returns who a connection comes from: an IPv4 address, or the network
// of 64 bits that one IPv6 host has to itself.
func addressOf(remote string) netip.Prefix {
	addr, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Prefix{}
	}
	ip := addr.Addr().Unmap().WithZone("")
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	prefix, _ := ip.Prefix(bits)
	return prefix
}
