//go:build unix && !linux

package redistest

import "syscall"

// dieWithParent does nothing here: only t.Cleanup ends the server.
func dieWithParent() *syscall.SysProcAttr { return nil }
