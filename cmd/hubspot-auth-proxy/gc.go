package main

import (
	"os"
	"runtime"
)

// garbageBudget is a number of bytes. The garbage collector runs when the garbage
// exceeds the memory in use by garbageBudget.
const garbageBudget = 16 << 20

// collectLess makes Go's garbage collector run less often, until release is called. By
// default, the collector would run a hundred times a second under load, because the
// heap of the program has only 4 MiB. If the operator has set GOGC, collectLess does
// nothing.
//
// collectLess allocates a block of memory that is never touched. So the system never
// provides physical memory for the block. The collector counts the block as in use, so the
// rest of the heap may grow by the same amount. Unlike a larger GOGC, the block does not
// multiply a heap that is already large.
func collectLess() (release func()) {
	if os.Getenv("GOGC") != "" {
		return func() {}
	}
	ballast := make([]byte, garbageBudget)
	return func() { runtime.KeepAlive(ballast) }
}
