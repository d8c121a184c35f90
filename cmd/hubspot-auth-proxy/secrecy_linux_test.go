package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"hubspot-auth-proxy/tokens/hubspottest"
)

// nobody is the user id of an ordinary user, on all Linux systems.
const nobody = 65534

// ordinary makes a command run as an ordinary user, because root may read everything.
func ordinary(command *exec.Cmd) {
	if os.Getuid() == 0 {
		command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}, Pdeathsig: syscall.SIGKILL}
	}
}

// publicCopy copies this program to a folder in which an ordinary user may run it.
func publicCopy(t *testing.T) string {
	t.Helper()
	folder, err := os.MkdirTemp("", "public")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	if err := os.Chmod(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	from, err := os.Open(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	path := filepath.Join(folder, "program")
	to, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(to, from)
	if closed := to.Close(); err != nil || closed != nil {
		t.Fatal(err, closed)
	}
	return path
}

// readAs reads a file as an ordinary user.
func readAs(path string) (string, error) {
	command := exec.Command("cat", path)
	ordinary(command)
	out, err := command.CombinedOutput()
	return string(out), err
}

func TestTheSameUserCannotReadMemoryAndEnvironment(t *testing.T) {
	t.Parallel()
	p := launchWith(t, func(command *exec.Cmd) {
		command.Path = publicCopy(t)
		command.Dir = "/"
		ordinary(command)
	}, "serve", "HUBSPOT_ACCESS_TOKEN="+staticToken)
	p.address()
	proc := fmt.Sprintf("/proc/%d/", p.Process.Pid)
	for _, file := range []string{"environ", "mem", "maps", "auxv"} {
		if got, err := readAs(proc + file); err == nil || strings.Contains(got, hubspottest.Canary) || !strings.Contains(got, "denied") {
			t.Errorf("%s can be read: %.100q, %v", file, got, err)
		}
	}
	if files, err := os.Stat(proc + "environ"); err != nil || files.Sys().(*syscall.Stat_t).Uid != 0 {
		t.Errorf("%s belongs to the user: %v", proc, err)
	}
	limits, err := readAs(proc + "limits")
	if core := regexp.MustCompile(`Max core file size +0 +0 `); err != nil || !core.MatchString(limits) {
		t.Errorf("a core may be dumped: %s, %v", limits, err)
	}
	// Without the protection the file could be read.
	if text, err := readAs(fmt.Sprintf("/proc/%d/status", p.Process.Pid)); err != nil || !strings.Contains(text, "VmHWM") {
		t.Errorf("%s, %v", text, err)
	}
	if printed := p.end(); strings.Contains(printed, "hidden") {
		t.Errorf("it could not be hidden: %s", printed)
	}
}
