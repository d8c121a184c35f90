package proxy_test

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hubspot-auth-proxy/tokens/testkit"
)

// child is a proxy in a process of its own.
type child struct {
	*exec.Cmd
	addr    string
	began   time.Time
	client  *http.Client
	base    string         // of its URLs; empty: addr
	printed testkit.Output // the last of it
}

// start builds a command of this module as the Dockerfile does, and runs it
// until the benchmark ends.
func (s *site) start(tb testing.TB, command string, args, settings []string) *child {
	tb.Helper()
	program := filepath.Join(s.dir, filepath.Base(command))
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", program, "hubspot-auth-proxy/"+command)
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if output, err := build.CombinedOutput(); err != nil {
		tb.Fatalf("build %s: %v\n%s", command, err, output)
	}
	return s.run(tb, program, args, settings)
}

// run runs a program until the benchmark ends.
func (s *site) run(tb testing.TB, program string, args, settings []string) *child {
	tb.Helper()
	c := &child{
		Cmd:    exec.Command(program, args...),
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}},
	}
	c.printed.Keep = 32 << 10
	c.Env = append(settings, "SSL_CERT_FILE="+filepath.Join(s.dir, "ca.pem"))
	c.Stdout, c.Stderr = &c.printed, &c.printed
	c.began = time.Now()
	ended, err := testkit.Run(c.Cmd)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		c.client.CloseIdleConnections()
		_ = c.Process.Kill()
		<-ended
	})
	return c
}

// cpu returns the time that the system counts for the process, of all its
// threads.
func (c *child) cpu(tb testing.TB) time.Duration {
	tb.Helper()
	const cpuClock = 2 // CPUCLOCK_SCHED of <linux/posix-timers.h>, as clock_getcpuclockid(3) has it
	var took unix.Timespec
	if err := unix.ClockGettime(int32(^c.Process.Pid<<3|cpuClock), &took); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(took.Nano())
}

// peakMemory returns the most memory that the process has had, in MiB.
func (c *child) peakMemory(tb testing.TB) float64 {
	tb.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.Process.Pid))
	if err != nil {
		tb.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), "VmHWM:")
	var kilobytes float64
	if _, err := fmt.Sscan(after, &kilobytes); err != nil {
		tb.Fatal(err)
	}
	return kilobytes / 1024
}
