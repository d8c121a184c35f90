//go:build unix

// Package testkit is what the tests of several packages need: the program as a
// process, and waiting for something to become true.
package testkit

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
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

	cmd     *exec.Cmd
	printed printed
	ended   chan struct{}
}

// printed is what a process has printed so far.
type printed struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (p *printed) Write(line []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.Write(line)
}

func (p *printed) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

var ready = regexp.MustCompile(`"the proxy is ready","address":"([^"]+)","admin":"([^"]+)"`)

// Launch starts the program on free ports, with that environment on top, and
// returns when it is ready.
func Launch(tb testing.TB, path string, environ ...string) *Program {
	tb.Helper()
	p := &Program{cmd: exec.Command(path), ended: make(chan struct{})}
	p.cmd.Dir = tb.TempDir()
	p.cmd.Env = append([]string{"LISTEN_ADDR=127.0.0.1:0", "ADMIN_ADDR=127.0.0.1:0", "GORACE=halt_on_error=1 atexit_sleep_ms=0"}, environ...)
	p.cmd.Stdout, p.cmd.Stderr = &p.printed, &p.printed
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait()
	}()
	tb.Cleanup(p.Kill)
	Eventually(tb, 30*time.Second, "the program is ready", func() bool {
		found := ready.FindStringSubmatch(p.Printed())
		if found != nil {
			p.Address, p.Admin = found[1], found[2]
		}
		return found != nil
	})
	return p
}

// Printed returns what the process has printed so far.
func (p *Program) Printed() string { return p.printed.String() }

// Kill ends the process with SIGKILL, and returns when it is gone.
func (p *Program) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// Stop stops the process with SIGSTOP, and Continue lets it go on.
func (p *Program) Stop()     { _ = p.cmd.Process.Signal(syscall.SIGSTOP) }
func (p *Program) Continue() { _ = p.cmd.Process.Signal(syscall.SIGCONT) }

// Eventually waits until the condition is true, and fails the test if that
// takes longer than within.
func Eventually(tb testing.TB, within time.Duration, what string, condition func() bool) {
	tb.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(within); !condition(); <-ticker.C {
		if time.Now().After(deadline) {
			tb.Fatalf("not within %v: %s", within, what)
		}
	}
}
