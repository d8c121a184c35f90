package k8s_test

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"

	"hubspot-auth-proxy/tokens/testkit"
)

func TestTheExamplesRedisHasItsPasswordAndNobodySeesIt(t *testing.T) {
	const password = "0123456789abcdef"
	command, socket := startRedis(t, password)
	for line, want := range map[string]string{"PING": "-NOAUTH Authentication required.", "AUTH " + password: "+OK"} {
		if got := askRedis(t, socket, line); got != want {
			t.Errorf("%s is answered %q, want %q", line, got, want)
		}
	}
	seen, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", command.Process.Pid))
	if diff := cmp.Diff("redis-server\x00-\x00", string(seen)); err != nil || diff != "" {
		t.Errorf("the process is seen as, %v\n%s", err, diff)
	}
	// The kubelet's signal must reach Redis.
	if err := command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := command.Wait(); err != nil {
		t.Errorf("it ends with %v", err)
	}
}

// startRedis runs the command of the example's container, with files and data in a folder
// of the test, and returns the socket on which Redis listens.
func startRedis(t *testing.T, password string) (command *exec.Cmd, socket string) {
	t.Helper()
	testkit.Need(t, "redis-server")
	dir := t.TempDir()
	socket = filepath.Join(dir, "socket")
	conf, err := os.ReadFile("examples/redis/redis.conf")
	if err != nil {
		t.Fatal(err)
	}
	own := strings.Replace(string(conf), "dir /data\n", "dir "+dir+"\n", 1)
	if own == string(conf) {
		t.Fatal("redis.conf writes somewhere else")
	}
	// Without this, Redis overwrites its arguments with a title some time after its start.
	own += fmt.Sprintf("\nport 0\nunixsocket %s\nset-proc-title no\n", socket)
	write(t, filepath.Join(dir, "redis.conf"), own)
	write(t, filepath.Join(dir, "password"), password)

	container := all[*appsv1.StatefulSet](render(t, "examples/redis"))[0].Spec.Template.Spec.Containers[0]
	script := strings.NewReplacer("/etc/redis-password/", dir+"/", "/etc/redis/", dir+"/").Replace(container.Command[2])
	command = exec.CommandContext(t.Context(), container.Command[0], container.Command[1], script)
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	return command, socket
}

// askRedis waits until Redis listens, sends a line, and returns the first line of the answer.
func askRedis(t *testing.T, socket, line string) string {
	t.Helper()
	var conn net.Conn
	testkit.Eventually(t, "Redis listens", func() bool {
		var err error
		conn, err = net.Dial("unix", socket)
		return err == nil
	})
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "%s\r\n", line); err != nil {
		t.Fatal(err)
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(answer)
}
