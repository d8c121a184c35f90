package main

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// hideMemory protects the memory, the environment and the open files of the process, which
// contain all secrets, from other processes of the same user and from core dumps. Root can
// still read them.
func hideMemory() error {
	var errs []error
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		errs = append(errs, fmt.Errorf("PR_SET_DUMPABLE: %w", err))
	}
	// The kernel ignores this limit where it pipes core dumps to a program, such as
	// systemd-coredump. There PR_SET_DUMPABLE prevents the dump.
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		errs = append(errs, fmt.Errorf("RLIMIT_CORE: %w", err))
	}
	return errors.Join(errs...)
}
