//go:build unix

package redistest

import (
	"bytes"
	"os"
	"os/exec"
	"runtime"

	"hubspot-auth-proxy/tokens/testkit"
)

// process is one process of redis-server.
type process struct {
	cmd    *exec.Cmd
	output bytes.Buffer  // may be read after the process has ended
	ended  chan struct{} // closed when the process has ended
}

// run starts redis-server.
func run(args []string) (*process, error) {
	p := &process{cmd: exec.Command("redis-server", args...), ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = &p.output, &p.output
	p.cmd.SysProcAttr = testkit.DieWithParent()
	started := make(chan error)
	go func() {
		// The kernel sends Pdeathsig when the thread that has started the child ends, so
		// this thread must not end (https://go.dev/issue/27505).
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.ended)
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// kill kills the process and waits until it has ended.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

func writeFile(name, text string) error { return os.WriteFile(name, []byte(text), 0o600) }
