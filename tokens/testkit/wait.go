// Package testkit has helpers for the tests of several packages. They run the program as a
// process, read its output, wait for a condition, serve connections by a function, and skip a
// test if another program is not installed. Package redistest has a real Redis, and package
// hubspottest a fake HubSpot.
package testkit

import (
	"testing"
	"time"
)

// Timeout is the longest time that [Eventually] and [Output.Until] wait. It is much longer
// than the slowest test needs on a busy machine.
const Timeout = 30 * time.Second

// poll is the interval between two checks of a condition.
const poll = 5 * time.Millisecond

// Eventually waits until condition returns true. It fails the test with the message what if
// that takes longer than [Timeout].
func Eventually(tb testing.TB, what string, condition func() bool) {
	tb.Helper()
	Within(tb, Timeout, what, condition)
}

// Within is like [Eventually], with limit instead of [Timeout].
func Within(tb testing.TB, limit time.Duration, what string, condition func() bool) {
	tb.Helper()
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	for deadline := time.Now().Add(limit); !condition(); <-ticker.C {
		if time.Now().After(deadline) {
			tb.Fatalf("not within %v: %s", limit, what)
		}
	}
}
