package testkit

import "syscall"

// DieWithParent makes the system kill a child process when the test's process
// ends, however it ends.
func DieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
