package proxy_test

import (
	"bufio"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/testkit"
)

// As many requests wait for HubSpot as the manifests allow, half of them from each of two
// clients, beside as many connections without a request.
func TestManyRequestsThatWaitFitIntoTheManifestsMemory(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector takes several times the memory")
	}
	requests, connections := manifest(t, "settings.env", "MAX_REQUESTS="), manifest(t, "settings.env", "MAX_CONNECTIONS=")
	limit := manifest(t, "deployment.yaml", "cpu: \"2\"\n +memory: ") << 20
	const retryMemory, portals = 32 << 20, 65e6 // RETRY_MEMORY, and all portals that a process caches
	hub := newSlowHub(t)
	p := launchFull(t, hub, requests, connections)
	start := memoryOf(t, p.PID())
	open := func(n int, path string, each func(net.Conn)) {
		for i := range n {
			conn, err := net.Dial("tcp", strings.TrimPrefix(p.Address, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = conn.Close() })
			_, _ = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s%d\r\nUser-Agent: hubspot-api-client-nodejs; 13.0.0\r\nAccept: application/json\r\n\r\n", path, hapKey, i%2)
			each(conn)
		}
	}
	open(connections-requests, "/at-once", func(conn net.Conn) { wantOK(t, conn) })
	idle := memoryOf(t, p.PID())
	var waiting []net.Conn
	open(requests, "/slow", func(conn net.Conn) { waiting = append(waiting, conn) })
	testkit.Eventually(t, "all wait for HubSpot", func() bool { return int(hub.waiting.Load()) == requests })
	all := memoryOf(t, p.PID())
	t.Logf("%d KiB at the start, %.1f KiB for each idle connection, %.1f KiB for each request that waits, %d KiB in all",
		start>>10, float64(idle-start)/float64(connections-requests)/1024, float64(all-idle)/float64(requests)/1024, all>>10)
	if most := int64(limit) - retryMemory - portals; all > most {
		t.Errorf("%d MiB are in use, of which %d MiB are there", all>>20, most>>20)
	}
	close(hub.release)
	for _, conn := range waiting {
		wantOK(t, conn)
	}
}

// manifest returns the number that follows the text in a file of k8s/base.
func manifest(t *testing.T, file, before string) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../k8s/base", file))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(before + `(\d+)`).FindSubmatch(text)
	if found == nil {
		t.Fatalf("%s has no %s", file, before)
	}
	n, _ := strconv.Atoi(string(found[1]))
	return n
}

// slowHub answers calls of /slow when release is closed, and all others at once.
type slowHub struct {
	*httptest.Server
	waiting atomic.Int64
	release chan struct{}
}

func newSlowHub(t *testing.T) *slowHub {
	h := &slowHub{release: make(chan struct{})}
	h.Server = httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/slow" {
			return
		}
		h.waiting.Add(1)
		select {
		case <-h.release:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(h.Close)
	return h
}

// hapKey begins the keys of two clients.
const hapKey = "hap_waiting-" + hubspottest.Canary + "-000000000000000000000000000"

// launchFull starts the program with those limits. Garbage is collected often, so that the
// process' memory is what is in use: GOMEMLIMIT does that where it is short.
func launchFull(t *testing.T, hub *slowHub, requests, connections int) *testkit.Program {
	t.Helper()
	dir := t.TempDir()
	trusted, seed := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "seed.yaml")
	clients := fmt.Sprintf("clients: [{name: a, key: %[1]s0, portals: ['*']}, {name: b, key: %[1]s1, portals: ['*']}]\n", hapKey)
	for name, content := range map[string][]byte{
		trusted: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: hub.Certificate().Raw}),
		seed:    []byte(clients),
	} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return testkit.Launch(t, testkit.Build(t), "UPSTREAM_URL="+hub.URL, "SSL_CERT_FILE="+trusted, "SEED_FILE="+seed, "ALLOW_ANONYMOUS=false",
		"HUBSPOT_PORTAL_ID=62515", "DEFAULT_PORTAL=62515", "HUBSPOT_ACCESS_TOKEN="+hubspottest.Canary,
		fmt.Sprint("MAX_REQUESTS=", requests), fmt.Sprint("MAX_CONNECTIONS=", connections), "GOGC=10")
}

// wantOK reads an answer, which is to be 200.
func wantOK(t *testing.T, conn net.Conn) {
	t.Helper()
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if text, err := io.ReadAll(response.Body); err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%v, %s, %v", response.Status, text, err)
	}
}
