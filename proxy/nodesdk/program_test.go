package nodesdk_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	// For go test, which does not know what the program is built of, to run these
	// again when that has changed.
	_ "hubspot-auth-proxy/config"
	_ "hubspot-auth-proxy/proxy/admin"
	"hubspot-auth-proxy/tokens/hubspottest"
)

// requests are those that HubSpot has received.
type requests struct {
	mu  sync.Mutex
	all []hubspottest.Echo
}

// watch begins a new list of requests.
func watch(hub *hubspottest.Server) *requests {
	seen := new(requests)
	hub.Observe(func(e hubspottest.Echo) {
		seen.mu.Lock()
		defer seen.mu.Unlock()
		seen.all = append(seen.all, e)
	})
	return seen
}

func (seen *requests) list() []hubspottest.Echo {
	seen.mu.Lock()
	defer seen.mu.Unlock()
	return seen.all
}

// build builds the program, and returns its path.
func build(t *testing.T) string {
	t.Helper()
	const command = "hubspot-auth-proxy/cmd/hubspot-auth-proxy"
	path := filepath.Join(t.TempDir(), "hubspot-auth-proxy")
	if output, err := exec.CommandContext(t.Context(), "go", "build", "-o", path, command).CombinedOutput(); err != nil {
		t.Fatalf("build the program: %v\n%s", err, output)
	}
	// Reading its sources' folders tells go test that the result depends on them.
	folders, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{with .Module}}{{if .Main}}{{$.Dir}}{{end}}{{end}}", command).Output()
	if err != nil {
		t.Fatal(err)
	}
	for folder := range strings.FieldsSeq(string(folders)) {
		if _, err := os.ReadDir(folder); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// start runs the program on a free port, with its own Redis embedded, until
// the test ends. It returns the address of its URL.
func start(t *testing.T, program string, hub *hubspottest.Server, settings ...string) (url string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	command := exec.CommandContext(ctx, program)
	command.Env = append(settings, "LISTEN_ADDR=127.0.0.1:0", "ADMIN_ADDR=127.0.0.1:0", "LOG_FORMAT=json", "UPSTREAM_URL="+hub.URL,
		"HUBSPOT_CLIENT_ID="+hubspottest.ClientID, "HUBSPOT_CLIENT_SECRET="+hubspottest.ClientSecret)
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	reader, writer := io.Pipe()
	command.Stdout, command.Stderr = writer, writer
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	address, printed := make(chan string, 1), make(chan string)
	go func() { printed <- scan(reader, address) }()
	t.Cleanup(func() {
		defer cancel()
		_ = command.Process.Signal(syscall.SIGTERM)
		err := command.Wait()
		_ = writer.Close()
		log := <-printed
		if err != nil {
			t.Errorf("the program ended: %v\n%s", err, log)
		}
		if strings.Contains(log, hubspottest.Canary) {
			t.Error("the program printed a secret:\n" + log)
		}
	})
	select {
	case a := <-address:
		return "http://" + a
	case <-time.After(30 * time.Second):
		t.Fatal("the program does not become ready")
		return ""
	}
}

// scan reads what the program prints to its end, and tells where it listens.
func scan(printed io.Reader, address chan<- string) (all string) {
	ready := regexp.MustCompile(`"the proxy is ready".*?"address":"([^"]+)"`)
	var text bytes.Buffer
	rest := io.TeeReader(printed, &text)
	for lines := bufio.NewScanner(rest); lines.Scan(); {
		if groups := ready.FindStringSubmatch(lines.Text()); groups != nil {
			address <- groups[1]
			break
		}
	}
	_, _ = io.Copy(io.Discard, rest)
	return text.String()
}
