package testkit

import "syscall"

// DieWithParent returns the attributes of a child process that the kernel kills when the
// test's process ends, even if that was killed itself.
func DieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
