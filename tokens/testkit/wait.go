package testkit

import (
	"testing"
	"time"
)

// Timeout is how long [Eventually] and [Output.Until] wait: much longer than
// anything takes on a busy machine.
const Timeout = 30 * time.Second

// poll is how often a condition is asked for.
const poll = 5 * time.Millisecond

// Eventually waits until the condition is true, and fails the test if that
// takes longer than [Timeout].
func Eventually(tb testing.TB, what string, condition func() bool) {
	tb.Helper()
	Within(tb, Timeout, what, condition)
}

// Within is Eventually with another limit.
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
