package admin

import (
	"net/netip"
	"sync"
	"time"
)

const (
	// triesAtOnce is the number of wrong passwords that an address may try without a
	// pause. After that, the address may try one every tryEvery.
	triesAtOnce = 10
	tryEvery    = 5 * time.Second

	// maxTriers is the number of addresses that are kept in memory.
	maxTriers = 1024
)

// tries limits wrong passwords for each address, so that an address cannot try many passwords and
// cannot lock out other addresses. The zero value is ready to use. tries is safe for concurrent
// use.
type tries struct {
	mu   sync.Mutex
	free map[netip.Prefix]time.Time // when the address has all its tries again
}

// take takes one of the address's tries, and returns 0. If the address has no try left, take
// returns the time until it has one.
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

// giveBack gives a try back to the address, because the password was right.
func (t *tries) giveBack(from netip.Prefix, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if free := t.free[from].Add(-tryEvery); free.After(now) {
		t.free[from] = free
	} else {
		delete(t.free, from)
	}
}

// forgetFreest forgets the address that has the most tries left.
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

// addressOf returns the address of a connection's other side: an IPv4 address, or the /64 network of
// an IPv6 address, because one host usually has a whole /64 network.
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
