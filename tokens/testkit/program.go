//go:build unix

package testkit

import (
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
)

// Build builds the program, with those flags of go build, and returns its path.
// It is gone at the end of the test.
func Build(tb testing.TB, flags ...string) (path string) {
	tb.Helper()
	path = filepath.Join(tb.TempDir(), "hubspot-auth-proxy")
	args := slices.Concat([]string{"build", "-o", path}, flags, []string{"hubspot-auth-proxy/cmd/hubspot-auth-proxy"})
	if printed, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		tb.Fatalf("build the program: %v\n%s", err, printed)
	}
	return path
}

// A Program is one process of the program. It ends with the test.
type Program struct {
	// Address and Admin are where it listens.
	Address, Admin string

	// Printed is what it has printed so far.
	Printed Output

	cmd   *exec.Cmd
	ended chan struct{}
}

// Launch starts the program on free ports, with that environment on top, and
// returns when it is ready.
func Launch(tb testing.TB, path string, environ ...string) *Program {
	tb.Helper()
	p := &Program{cmd: exec.Command(path), ended: make(chan struct{})}
	p.cmd.Dir = tb.TempDir()
	p.cmd.Env = append([]string{"LISTEN_ADDR=127.0.0.1:0", "ADMIN_ADDR=127.0.0.1:0", "GORACE=halt_on_error=1 atexit_sleep_ms=0"}, environ...)
	p.cmd.Stdout, p.cmd.Stderr = &p.Printed, &p.Printed
	p.cmd.SysProcAttr = DieWithParent()
	if err := p.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait()
	}()
	tb.Cleanup(p.Kill)
	listens := p.Printed.Until(tb, `"the proxy is ready","address":"([^"]+)","admin":"([^"]+)"`)
	p.Address, p.Admin = listens[1], listens[2]
	return p
}

// Kill ends the process with SIGKILL, and returns when it is gone.
func (p *Program) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// Terminate ends the process with SIGTERM, and returns its exit status when it is
// gone.
func (p *Program) Terminate() (status int) {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	<-p.ended
	return p.cmd.ProcessState.ExitCode()
}

// Ended is closed when the process has ended.
func (p *Program) Ended() <-chan struct{} { return p.ended }

// Stop stops the process with SIGSTOP, and Continue lets it go on.
func (p *Program) Stop()     { _ = p.cmd.Process.Signal(syscall.SIGSTOP) }
func (p *Program) Continue() { _ = p.cmd.Process.Signal(syscall.SIGCONT) }
