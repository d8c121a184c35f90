//go:build !linux

package testkit

import "syscall"

// DieWithParent returns nil, because this system cannot kill a child process when the test's
// process ends. The test's cleanup kills its child processes.
func DieWithParent() *syscall.SysProcAttr { return nil }
