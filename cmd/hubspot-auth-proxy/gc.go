package main

import (
	"os"
	"runtime"
)

// garbageBudget is how much garbage may be lying about before it is collected,
// besides as much as is in use, in bytes.
const garbageBudget = 16 << 20

// collectLess lets more garbage gather than Go does by itself, which collects
// the 4 MiB of a small program's heap a hundred times a second under load. It
// does nothing if the operator has set GOGC. release ends it.
//
// It takes memory that is never touched, and so is none of the system's: to
// Go's collector it is in use, and so the rest of the heap may grow by that much.
// Unlike a larger GOGC, that does not multiply a heap that is large already.
func collectLess() (release func()) {
	if os.Getenv("GOGC") != "" {
		return func() {}
	}
	ballast := make([]byte, garbageBudget)
	return func() { runtime.KeepAlive(ballast) }
}
