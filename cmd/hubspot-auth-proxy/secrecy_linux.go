package main

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// hideMemory keeps the process' memory, environment and open files from other
// processes of the same user, and from core dumps: they hold all secrets. Root
// reads them all the same.
func hideMemory() error {
	var errs []error
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		errs = append(errs, fmt.Errorf("PR_SET_DUMPABLE: %w", err))
	}
	// Where the kernel hands core dumps to a program, such as systemd-coredump,
	// it is the former that counts.
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		errs = append(errs, fmt.Errorf("RLIMIT_CORE: %w", err))
	}
	return errors.Join(errs...)
}
