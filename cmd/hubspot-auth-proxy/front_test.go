package main

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/testkit"
)

// startNginx starts an nginx on this machine in front of an address, and returns its URL. lines
// are added to its location. The test is skipped if nginx is not installed.
func startNginx(t *testing.T, address string, lines ...string) string {
	t.Helper()
	path := testkit.Need(t, "nginx")
	folder := t.TempDir()
	var text strings.Builder
	fmt.Fprintf(&text, "daemon off; master_process off; pid %s/pid; error_log stderr;\nevents {}\nhttp { access_log off;\n", folder)
	for _, name := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		fmt.Fprintf(&text, "%s_temp_path %s/%s;\n", name, folder, name)
	}
	listen := freeAddress("127.0.0.1:0")
	fmt.Fprintf(&text, "server { listen %s; location / { proxy_pass http://%s; %s } } }\n", listen, address, strings.Join(lines, " "))
	config := filepath.Join(folder, "nginx.conf")
	if err := os.WriteFile(config, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	nginx := exec.Command(path, "-c", config, "-p", folder)
	nginx.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	nginx.Stderr = t.Output()
	if err := nginx.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = nginx.Process.Kill()
		_ = nginx.Wait()
	})
	testkit.Eventually(t, "nginx listens", func() bool {
		response, err := http.Get("http://" + listen + "/healthz")
		if err == nil {
			_ = response.Body.Close()
		}
		return err == nil
	})
	return "http://" + listen
}

func TestCallsThroughAReverseProxyOnTheSameMachineAreNotLocal(t *testing.T) {
	t.Parallel()
	hub := hubspottest.NewServer()
	defer hub.Close()
	p := launch(t, "serve", oauth(hub)...)
	address := p.address()
	admin := p.until(`"the proxy is ready".*?"admin":"([^"]+)"`)[1]
	for _, line := range []string{
		"proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;",
		"proxy_set_header X-Real-IP $remote_addr; proxy_http_version 1.1;",
		"proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header Connection '';",
		"proxy_set_header Forwarded for=$remote_addr;",
		"proxy_set_header Via '1.1 nginx'; proxy_http_version 1.1;",
	} {
		if status, body := get(t, startNginx(t, address, line)+"/crm/v3/objects/contacts"); status != http.StatusUnauthorized || !strings.Contains(body, "another proxy") {
			t.Errorf("%s: %d %s", line, status, body)
		}
		if status, body := get(t, startNginx(t, admin, line)+"/"); status != http.StatusForbidden || !strings.Contains(body, "another proxy") {
			t.Errorf("%s: %d %s", line, status, body)
		}
	}
	// The public name is not a name of this machine.
	if status, body := get(t, startNginx(t, address, "proxy_set_header Host hubspot.example.com;")+"/a"); status != http.StatusForbidden || !strings.Contains(body, "BROWSER_REFUSED") {
		t.Errorf("by its public name: %d %s", status, body)
	}
	// A plain nginx adds no headers. Before 1.29.7 it uses HTTP/1.0, which no browser does.
	for _, path := range []string{"/crm/v3/objects/contacts", "/portals/62515/a"} {
		if status, body := get(t, startNginx(t, address, "proxy_http_version 1.0;")+path); status != http.StatusUnauthorized || !strings.Contains(body, "another proxy") {
			t.Errorf("%s through a plain nginx: %d %s", path, status, body)
		}
	}
	plain := startNginx(t, admin, "proxy_http_version 1.0;")
	if status, _ := get(t, plain+"/"); status != http.StatusForbidden {
		t.Errorf("the status page through a plain nginx: %d", status)
	}
	if status, _ := get(t, plain+"/readyz"); status != http.StatusOK {
		t.Errorf("readiness through a plain nginx: %d", status)
	}
	for _, path := range []string{"/", "/connect"} {
		if status, body := get(t, "http://"+admin+path); status == http.StatusForbidden {
			t.Errorf("directly: %d %s", status, body)
		}
	}
	if n := hub.Requests(); n != 0 {
		t.Errorf("%d requests reached HubSpot", n)
	}
}
