//go:build !linux

package testkit

import "syscall"

// DieWithParent does nothing here: only a test's cleanup ends its child processes.
func DieWithParent() *syscall.SysProcAttr { return nil }
