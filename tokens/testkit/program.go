//go:build unix

package testkit

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

// Build builds the program with these flags of go build, and returns its path. The file is
// removed when the test ends.
func Build(tb testing.TB, flags ...string) (path string) {
	tb.Helper()
	path = filepath.Join(tb.TempDir(), "hubspot-auth-proxy")
	if err := build(path, flags); err != nil {
		tb.Fatal(err)
	}
	return path
}

func build(path string, flags []string) error {
	args := slices.Concat([]string{"build"}, flags, []string{"-o", path, "hubspot-auth-proxy/cmd/hubspot-auth-proxy"})
	if printed, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("build the program: %w\n%s", err, printed)
	}
	return nil
}

// binary names the environment variable that has the path of the program that Main has built.
const binary = "HUBSPOT_AUTH_PROXY_BINARY"

// Binary returns the path of the program that [Main] has built.
func Binary() string { return os.Getenv(binary) }

// Main runs the tests of a package whose tests share one build of the program, and returns the
// status for [os.Exit]. The tests fail if they leave goroutines. flags are flags of go build.
func Main(m *testing.M, flags ...string) (status int) {
	dir, err := os.MkdirTemp("", "hubspot-auth-proxy")
	if err == nil {
		defer os.RemoveAll(dir)
		path := filepath.Join(dir, "hubspot-auth-proxy")
		_ = os.Setenv(binary, path)
		err = build(path, flags)
	}
	if err == nil {
		if status := m.Run(); status != 0 {
			return status
		}
		err = goleak.Find()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// Run starts the command as a child process, and returns a channel that is closed when the
// process has ended. On Linux, the kernel kills the process when the test's process ends.
func Run(command *exec.Cmd) (ended <-chan struct{}, err error) {
	command.SysProcAttr = dieWithParent()
	started, done := make(chan error), make(chan struct{})
	go func() {
		// The kernel kills the child when the thread ends that has started the child, so this
		// thread must not end (https://go.dev/issue/27505).
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(done)
		err := command.Start()
		started <- err
		if err == nil {
			_ = command.Wait()
		}
	}()
	return done, <-started
}

// A Program is one process of the program. [Launch] starts it.
type Program struct {
	// Address and Admin are the addresses of the proxy and of the admin listener.
	Address, Admin string

	// Printed is the output so far: standard output and standard error.
	Printed Output

	cmd   *exec.Cmd
	ended <-chan struct{}
}

// Launch starts the program at path on free ports and returns when the program is ready. environ
// has settings in the form NAME=value, which replace those of Launch itself. The program gets no
// other environment variables. The process is killed when the test ends. The test fails if the
// program is not ready within [Timeout].
func Launch(tb testing.TB, path string, environ ...string) *Program {
	tb.Helper()
	return launch(tb, "is ready", path, environ)
}

// LaunchWithoutRedis is like [Launch], for a program whose Redis does not answer. It returns
// when the program listens and waits for Redis.
func LaunchWithoutRedis(tb testing.TB, path string, environ ...string) *Program {
	tb.Helper()
	return launch(tb, "listens, and waits for Redis", path, environ)
}

func launch(tb testing.TB, state, path string, environ []string) *Program {
	tb.Helper()
	p := &Program{cmd: exec.Command(path)}
	p.cmd.Dir = tb.TempDir()
	p.cmd.Env = append([]string{"LISTEN_ADDR=127.0.0.1:0", "ADMIN_ADDR=127.0.0.1:0", "GORACE=halt_on_error=1 atexit_sleep_ms=0"}, environ...)
	p.cmd.Stdout, p.cmd.Stderr = &p.Printed, &p.Printed
	var err error
	if p.ended, err = Run(p.cmd); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(p.Kill)
	listens := p.Printed.Until(tb, `"the proxy `+state+`","address":"([^"]+)","admin":"([^"]+)"`)
	p.Address, p.Admin = listens[1], listens[2]
	return p
}

// Kill kills the process with SIGKILL and returns when it has ended.
func (p *Program) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// Terminate sends SIGTERM to the process, waits until it has ended, and returns its exit
// status.
func (p *Program) Terminate() (status int) {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	<-p.ended
	return p.cmd.ProcessState.ExitCode()
}

// PID returns the process' id.
func (p *Program) PID() int { return p.cmd.Process.Pid }

// Ended returns a channel that is closed when the process has ended.
func (p *Program) Ended() <-chan struct{} { return p.ended }

// Stop stops the process with SIGSTOP.
func (p *Program) Stop() { _ = p.cmd.Process.Signal(syscall.SIGSTOP) }

// Continue lets the process run again after [Program.Stop].
func (p *Program) Continue() { _ = p.cmd.Process.Signal(syscall.SIGCONT) }
