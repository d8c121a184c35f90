package k8s_test

import (
	"net/http"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The sidecar runs in the image's container, with only the environment and the mounted
// files that the manifest adds. The container's network does not reach HubSpot.
func TestTheSidecarStartsWithExactlyWhatItsManifestGivesIt(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("only root can make a container")
	}
	p, made := proxyOf(t, "examples/sidecar"), readImage(t)
	c := newContainer(t, made, buildImage(t, copyContext(t), runtime.GOARCH))
	p.mounted(t, c.root)
	for name, value := range p.env {
		c.env = append(c.env, name+"="+value) // replaces the image's value, which is before it
	}
	if len(p.container.Command) > 0 || len(p.container.Args) > 0 {
		t.Fatal("the manifest replaces the image's entry point or gives it arguments")
	}
	process, log := c.command(made.Entrypoint)
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	c.awaitHealthy(p.container.StartupProbe.Exec.Command, log)
	c.checkSidecar(p, process.Process.Pid)
	if err := process.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := process.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v\n%s", err, log)
	}
	if strings.Contains(log.String(), strings.TrimSpace(valueOf("HUBSPOT_ACCESS_TOKEN_FILE"))) {
		t.Errorf("its log has the token:\n%s", log)
	}
}

func (c *container) checkSidecar(p proxy, pid int) {
	c.t.Helper()
	if command, output := c.command(p.container.LivenessProbe.Exec.Command); command.Run() != nil {
		c.t.Errorf("the liveness probe fails: %s", output)
	}
	if diff := cmp.Diff([]string{"127.0.0.1:8080", "127.0.0.1:8081"}, listening(c.t, pid)); diff != "" {
		c.t.Errorf("it listens elsewhere than on loopback:\n%s", diff)
	}
	api, admin := p.env["LISTEN_ADDR"], p.env["ADMIN_ADDR"]
	for _, tt := range []struct {
		addr, path, portal string
		status             int
		says               string
	}{
		// The app's call needs no key, and fails only because HubSpot cannot be reached.
		{api, "/crm/v3/objects/contacts?limit=1", "", 502, "UPSTREAM_UNREACHABLE"},
		{api, "/crm/v3/objects/contacts?limit=1", "62515", 403, "PORTAL_NOT_CONNECTED"},
		{admin, "/metrics", "", 200, "\ngo_gc_gomemlimit_bytes 1.28e+08\n"}, // of 128Mi
	} {
		header := http.Header{}
		if tt.portal != "" {
			header.Set("X-HubSpot-Portal-Id", tt.portal)
		}
		if status, body := c.call(tt.addr, tt.path, header); status != tt.status || !strings.Contains(body, tt.says) {
			c.t.Errorf("%s%s for portal %q: status %d, %s, want %d and %q", tt.addr, tt.path, tt.portal, status, body, tt.status, tt.says)
		}
	}
}
