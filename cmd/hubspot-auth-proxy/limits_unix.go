//go:build unix

package main

import (
	"math"

	"golang.org/x/sys/unix"
)

// openFiles returns how many files this process may have open, 0 if that has no
// limit, or is not known. Go's runtime has raised it as far as the system allows.
func openFiles() int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || uint64(limit.Cur) > math.MaxInt32 {
		return 0
	}
	return int(limit.Cur)
}
