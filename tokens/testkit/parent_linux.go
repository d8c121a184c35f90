package testkit

import "syscall"

// dieWithParent makes the kernel kill a child process when the thread that has started the
// child ends, even if the test's process was killed.
func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
