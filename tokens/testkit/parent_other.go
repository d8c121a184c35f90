//go:build !linux

package testkit

import "syscall"

// dieWithParent returns nil, because this system cannot kill a child process when the test's
// process ends. The test's cleanup kills its child processes.
func dieWithParent() *syscall.SysProcAttr { return nil }
