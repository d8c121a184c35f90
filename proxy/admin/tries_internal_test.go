package admin

import (
	"net/netip"
	"testing"
	"time"
)

func network(n int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}), 32)
}

func TestAnAddressHasSomeTriesAtOnceAndThenOneAtAnInterval(t *testing.T) {
	var all tries
	now := time.Unix(1_795_000_000, 0)
	for i := range triesAtOnce {
		if wait := all.take(network(1), now); wait != 0 {
			t.Errorf("try %d waits for %v", i, wait)
		}
	}
	for range 1000 {
		if wait := all.take(network(1), now); wait != tryEvery {
			t.Fatalf("one too many waits for %v", wait)
		}
	}
	if all.take(network(2), now) != 0 {
		t.Error("another address waits")
	}
	now = now.Add(tryEvery)
	if all.take(network(1), now) != 0 || all.take(network(1), now) == 0 {
		t.Error("after a while, it has not one try")
	}
	all.giveBack(network(1), now)
	if all.take(network(1), now) != 0 {
		t.Error("the right password took a try")
	}
	now = now.Add(time.Hour)
	for i := range triesAtOnce {
		if all.take(network(1), now) != 0 {
			t.Errorf("an hour later, try %d waits", i)
		}
	}
}

func TestManyAddressesTakeLimitedMemoryAndResetNoLimit(t *testing.T) {
	var all tries
	now := time.Unix(1_795_000_000, 0)
	for range triesAtOnce {
		all.take(network(0), now)
	}
	for n := range 5_000 {
		if all.take(network(n+1), now) != 0 {
			t.Fatal("an address that is new waits")
		}
	}
	if len(all.free) > maxTriers {
		t.Errorf("%d addresses are kept", len(all.free))
	}
	if all.take(network(0), now) == 0 {
		t.Error("one that had used up its tries has some again")
	}
	for n := range 5_001 { // the right password leaves nothing
		all.giveBack(network(n), now.Add(time.Hour))
	}
	if len(all.free) != 0 {
		t.Errorf("%d addresses are kept", len(all.free))
	}
}

func TestAnIPv6HostIsOneAddress(t *testing.T) {
	for remote, want := range map[string]string{
		"192.0.2.1:5":           "192.0.2.1/32",
		"[::ffff:192.0.2.1]:5":  "192.0.2.1/32",
		"[2001:db8:1:2:3::4]:5": "2001:db8:1:2::/64",
		"[fe80::1%eth0]:5":      "fe80::/64",
		"@":                     "invalid Prefix",
	} {
		if got := addressOf(remote).String(); got != want {
			t.Errorf("%s: %s", remote, got)
		}
	}
}
