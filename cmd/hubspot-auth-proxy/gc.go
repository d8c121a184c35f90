package main

import (
	"os"
	"runtime"
)

// garbageBudget is how many bytes of garbage may gather, in addition to as much as is in
// use, before they are collected.
const garbageBudget = 16 << 20

// collectLess makes Go's garbage collector run less often, until release is called. By
// default it collects the 4 MiB heap of a small program a hundred times a second under
// load. If the operator has set GOGC, collectLess does nothing.
//
// collectLess allocates memory that is never touched, and that the system therefore never
// provides. The collector counts it as in use, so the rest of the heap may grow by the same
// amount. Unlike a larger GOGC, this does not multiply a heap that is already large.
func collectLess() (release func()) {
	if os.Getenv("GOGC") != "" {
		return func() {}
	}
	ballast := make([]byte, garbageBudget)
	return func() { runtime.KeepAlive(ballast) }
}
