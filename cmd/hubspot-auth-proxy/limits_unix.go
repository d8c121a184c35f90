//go:build unix

package main

import (
	"math"

	"golang.org/x/sys/unix"
)

// openFiles returns how many files this process may have open; 0 means no limit, or that the
// limit is not known. Go's runtime has raised the limit as far as the system allows.
func openFiles() int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || uint64(limit.Cur) > math.MaxInt32 {
		return 0
	}
	return int(limit.Cur)
}
