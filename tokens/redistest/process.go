//go:build unix

package redistest

import (
	"bytes"
	"os"
	"os/exec"
	"runtime"

	"hubspot-auth-proxy/tokens/testkit"
)

// process is a redis-server that was started.
type process struct {
	cmd    *exec.Cmd
	output bytes.Buffer  // to be read once it has ended
	ended  chan struct{} // closed when it has
}

// run starts redis-server.
func run(args []string) (*process, error) {
	p := &process{cmd: exec.Command("redis-server", args...), ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = &p.output, &p.output
	p.cmd.SysProcAttr = testkit.DieWithParent()
	started := make(chan error)
	go func() {
		// The parent's death is that of the thread that started the child
		// (https://go.dev/issue/27505): it has to stay.
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

// kill ends the process and waits for its end.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

func writeFile(name, text string) error { return os.WriteFile(name, []byte(text), 0o600) }
