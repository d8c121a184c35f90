package nodesdk_test

import (
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	// go test caches results and does not know which packages the program is built
	// from. These imports make it run the tests again when those packages change.
	_ "hubspot-auth-proxy/config"
	_ "hubspot-auth-proxy/proxy/admin"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/testkit"
)

// requests records the requests that HubSpot has received.
type requests struct {
	mu  sync.Mutex
	all []hubspottest.Echo
}

// watch records the requests that HubSpot receives from now on, until the next watch.
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

// build builds the program and returns its path.
func build(t *testing.T) string {
	t.Helper()
	const command = "hubspot-auth-proxy/cmd/hubspot-auth-proxy"
	path := testkit.Build(t)
	// Because the test reads the folders of the program's sources, go test runs it again
	// when a file is added or removed.
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

// start runs the program with its embedded Redis on a free port until the test ends,
// and returns its URL. The program must exit with status 0 and print no canary.
func start(t *testing.T, program string, hub *hubspottest.Server, settings ...string) (url string) {
	t.Helper()
	p := testkit.Launch(t, program, append(settings, "LOG_FORMAT=json", "UPSTREAM_URL="+hub.URL,
		"HUBSPOT_CLIENT_ID="+hubspottest.ClientID, "HUBSPOT_CLIENT_SECRET="+hubspottest.ClientSecret)...)
	t.Cleanup(func() {
		if status := p.Terminate(); status != 0 {
			t.Errorf("the program ended with exit status %d:\n%s", status, &p.Printed)
		}
		if strings.Contains(p.Printed.String(), hubspottest.Canary) {
			t.Errorf("the program printed a secret:\n%s", &p.Printed)
		}
	})
	return "http://" + p.Address
}
