package k8s_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/testkit"
)

// container has the parts of a container that the image needs: a root folder with the
// program and CA certificates, the image's user and environment, and its own network, in
// which the image's ports are free.
type container struct {
	t    *testing.T
	root string
	env  []string
}

// newContainer makes the image's container. From now on, everything that the test's own
// goroutine starts, listens on or dials is in the container's network.
func newContainer(t *testing.T, made image, program string) *container {
	t.Helper()
	// The thread is never unlocked, so it ends with the test, and the network ends with it.
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skipf("this machine allows no network namespace: %v", err)
	}
	bringLoopbackUp(t)
	c := &container{t: t, root: t.TempDir()}
	for name, value := range made.Env {
		c.env = append(c.env, name+"="+value)
	}
	content, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	c.write("/hubspot-auth-proxy", content, 0o555)
	return c
}

func bringLoopbackUp(t *testing.T) {
	t.Helper()
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(socket)
	loopback, err := unix.NewIfreq("lo")
	if err != nil {
		t.Fatal(err)
	}
	loopback.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, loopback); err != nil {
		t.Fatal(err)
	}
}

// write writes a file that only root can change, because only root can change its folders.
func (c *container) write(name string, content []byte, mode os.FileMode) {
	c.t.Helper()
	path := filepath.Join(c.root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		c.t.Fatal(err)
	}
	if err := os.WriteFile(path, content, mode); err != nil {
		c.t.Fatal(err)
	}
}

// command returns a command that runs the arguments in the container.
func (c *container) command(args []string) (command *exec.Cmd, output *bytes.Buffer) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	c.t.Cleanup(cancel)
	command, output = exec.CommandContext(ctx, args[0], args[1:]...), new(bytes.Buffer)
	command.Dir, command.Env = "/", c.env
	command.Stdout, command.Stderr = output, output
	command.SysProcAttr = &syscall.SysProcAttr{
		Chroot:     c.root,
		Credential: &syscall.Credential{Uid: 65532, Gid: 65532},
		Pdeathsig:  syscall.SIGKILL,
	}
	return command, output
}

// call sends a GET into the container's network.
func (c *container) call(addr, path string, header http.Header) (status int, body string) {
	c.t.Helper()
	// http.Client would dial in another goroutine, which is not in the container's network.
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		c.t.Fatal(err)
	}
	defer conn.Close()
	request, err := http.NewRequest(http.MethodGet, "http://"+addr+path, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	request.Header, request.Close = header, true
	if err := request.Write(conn); err != nil {
		c.t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), request)
	if err != nil {
		c.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// trust makes the server's certificate the only one of the container's CA
// certificates.
func (c *container) trust(hub *hubspottest.Server) {
	c.t.Helper()
	conn, err := tls.Dial("tcp", strings.TrimPrefix(hub.URL, "https://"), hub.ClientTLS())
	if err != nil {
		c.t.Fatal(err)
	}
	defer conn.Close()
	block := &pem.Block{Type: "CERTIFICATE", Bytes: conn.ConnectionState().PeerCertificates[0].Raw}
	c.write("/etc/ssl/certs/ca-certificates.crt", pem.EncodeToMemory(block), 0o444)
}

// awaitHealthy runs the HEALTHCHECK until it succeeds.
func (c *container) awaitHealthy(check []string, log *bytes.Buffer) {
	c.t.Helper()
	defer func() {
		if c.t.Failed() {
			c.t.Logf("the program's log:\n%s", log)
		}
	}()
	testkit.Within(c.t, 20*time.Second, "the container is healthy", func() bool {
		command, _ := c.command(check)
		return command.Run() == nil
	})
}

func TestTheImageServesCallersWithAKeyAndHasNothingButItself(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("only root can make a container")
	}
	made := readImage(t)
	c := newContainer(t, made, buildImage(t, copyContext(t), runtime.GOARCH))
	hub := hubspottest.NewTLSServer(false)
	t.Cleanup(hub.Close)
	hub.SetAccessToken("62515", "pat-"+hubspottest.Canary)
	c.trust(hub)
	const key = "hap_0123456789abcdefghijklmnopqrstuvwxyz"
	c.write("/etc/hubspot/seed.yaml", fmt.Appendf(nil, "portals: [{id: 62515, access_token: pat-%s}]\nclients: [{name: billing, key: %s, portals: [62515]}]\n", hubspottest.Canary, key), 0o444)
	c.env = append(c.env, "UPSTREAM_URL="+hub.URL, "SEED_FILE=/etc/hubspot/seed.yaml")

	check := made.Health[1:]
	if command, output := c.command(check); command.Run() == nil {
		t.Errorf("healthy before it runs: %s", output)
	}
	process, log := c.command(made.Entrypoint)
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	c.awaitHealthy(check, log)
	// The health check uses 127.0.0.1. The program must serve other addresses too.
	for _, tt := range []struct {
		addr, path, key string
		status          int
		says            string
	}{
		{"127.0.0.2:8080", "/crm/v3/objects/contacts", "", 401, "CLIENT_UNAUTHENTICATED"},
		{"127.0.0.2:8080", "/crm/v3/objects/contacts", key, 200, "access_token"},
		{"127.0.0.2:8081", "/readyz", "", 200, "redis"},
		{"127.0.0.2:8081", "/metrics", "", 200, builtVersion},
		{"127.0.0.2:8081", "/connect", "", 403, "ADMIN_PASSWORD"},
	} {
		header := http.Header{}
		if tt.key != "" {
			header.Set("Authorization", "Bearer "+tt.key)
		}
		if status, body := c.call(tt.addr, tt.path, header); status != tt.status || !strings.Contains(body, tt.says) {
			t.Errorf("%s%s with key %q: status %d, %s, want %d and %q", tt.addr, tt.path, tt.key, status, body, tt.status, tt.says)
		}
	}
	if err := process.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := process.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v\n%s", err, log)
	}
	if command, output := c.command(check); command.Run() == nil {
		t.Errorf("healthy after its end: %s", output)
	}
}
