package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"hubspot-auth-proxy/config"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/testkit"
)

// withOpenFiles starts the process with that limit of open files.
func withOpenFiles(n int) func(*exec.Cmd) {
	return func(command *exec.Cmd) {
		program := command.Path
		command.Path = "/bin/sh"
		command.Args = append([]string{"sh", "-c", fmt.Sprintf(`ulimit -n %d && exec "$0" "$@"`, n), program}, command.Args[1:]...)
	}
}

// probes sends health probes continuously. It returns a function that stops them, and returns
// their number and the slowest time.
func probes(t *testing.T, admin string) (end func() (n int, slowest time.Duration)) {
	stop, done := make(chan struct{}), make(chan struct{})
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	var n int
	var slowest time.Duration
	go func() {
		defer close(done)
		for {
			began := time.Now()
			response, err := client.Get("http://" + admin + "/healthz")
			if err != nil {
				t.Errorf("a probe failed: %v", err)
				return
			}
			_ = response.Body.Close()
			n, slowest = n+1, max(slowest, time.Since(began))
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	}()
	return func() (int, time.Duration) {
		close(stop)
		<-done
		return n, slowest
	}
}

func TestIdleClientsDoNotUseUpTheOpenFiles(t *testing.T) {
	t.Parallel()
	const files, idle, active, calls = 2048, 5000, 500, 3
	const key = "hap_one-of-two-clients-that-each-have-half-00000000"
	hub := hubspottest.NewServer()
	defer hub.Close()
	hub.SetAccessToken("62515", staticToken)
	seed := filepath.Join(t.TempDir(), "seed.yaml")
	if err := os.WriteFile(seed, []byte("portals: [{id: 62515, access_token: "+staticToken+"}]\n"+
		"clients: [{name: a, key: "+key+"0, portals: [62515]}, {name: b, key: "+key+"1, portals: [62515]}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := launchWith(t, withOpenFiles(files), "serve", "UPSTREAM_URL="+hub.URL, "SEED_FILE="+seed, "ALLOW_ANONYMOUS=false", "ACCESS_LOG=false")
	address := p.address()
	admin := p.until(`"admin":"([^"]+)"`)[1]
	p.until(`"max_connections":974,"max_requests":974`)
	end := probes(t, admin)
	for i := range idle {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		if i%2 == 0 { // half of them have had an answer
			_, _ = io.WriteString(conn, "GET /x HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer "+key+"0\r\n\r\n")
		}
	}
	var clients sync.WaitGroup
	var mu sync.Mutex
	failed := make(map[string]int)
	for number := range active {
		clients.Go(func() {
			client := http.Client{Transport: &http.Transport{}, Timeout: 30 * time.Second}
			defer client.CloseIdleConnections()
			for range calls {
				var result string
				request, _ := http.NewRequest(http.MethodGet, "http://"+address+"/crm/v3/objects/contacts", nil)
				request.Header.Set("Authorization", fmt.Sprint("Bearer ", key, number%2))
				if response, err := client.Do(request); err != nil {
					result = err.Error()
				} else {
					_, _ = io.Copy(io.Discard, response.Body)
					_ = response.Body.Close()
					result = fmt.Sprint(response.StatusCode)
				}
				mu.Lock()
				failed[result]++
				mu.Unlock()
			}
		})
	}
	clients.Wait()
	n, slowest := end()
	t.Logf("%v; %d probes, the slowest took %v", failed, n, slowest)
	if failed["200"] != active*calls {
		t.Errorf("calls: %v", failed)
	}
	if slowest > 5*time.Second { // timeoutSeconds of the manifests
		t.Errorf("a probe took %v", slowest)
	}
	if printed := p.end(); strings.Contains(printed, "too many open files") {
		t.Errorf("%s", printed)
	}
}

func TestRequestsBeyondTheLimitAreOverloadedAndHealthAnswers(t *testing.T) {
	t.Parallel()
	hub := hubspottest.NewServer()
	defer hub.Close()
	hub.SetAccessToken("62515", staticToken)
	p := launchWith(t, withOpenFiles(400), "serve", "UPSTREAM_URL="+hub.URL, "HUBSPOT_ACCESS_TOKEN="+staticToken)
	address := p.address()
	end := probes(t, p.until(`"admin":"([^"]+)"`)[1])
	for range 140 {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		_, _ = io.WriteString(conn, "GET /fake/hang HTTP/1.1\r\nHost: localhost\r\n\r\n")
	}
	// The anonymous client may have half of 150 requests.
	testkit.Eventually(t, "half of them are under way", func() bool { return hub.Requests() == 75 })
	r := p.call("GET", "/x", "")
	if r.status != http.StatusServiceUnavailable || r.category != "OVERLOADED" {
		t.Errorf("%v", r)
	}
	if n, slowest := end(); slowest > 2*time.Second {
		t.Errorf("%d probes, the slowest took %v", n, slowest)
	}
	if n := hub.Requests(); n != 75 {
		t.Errorf("%d requests reached HubSpot", n)
	}
}

func TestLimitsFollowFromTheLimitOfOpenFiles(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		files    int
		settings config.Config
		want     limits
	}{
		{1024, config.Config{}, limits{462, 462}},
		{20, config.Config{}, limits{1, 1}},
		{0, config.Config{}, limits{}},
		{1024, config.Config{MaxConnections: new(7)}, limits{7, 462}},
		{0, config.Config{MaxRequests: new(7)}, limits{0, 7}},
	} {
		if got := limitsOf(tt.settings, tt.files); got != tt.want {
			t.Errorf("%d: %v, want %v", tt.files, got, tt.want)
		}
	}
	p := launchWith(t, withOpenFiles(400), "serve", "HUBSPOT_ACCESS_TOKEN="+staticToken, "MAX_CONNECTIONS=300", "MAX_REQUESTS=1")
	p.until(`"level":"warn".*"msg":"the limit of open files is too low for MAX_CONNECTIONS and MAX_REQUESTS`)
}

// A client without a key could occupy all connections with refused requests.
func TestRefusedClientsDoNotOccupyTheConnections(t *testing.T) {
	t.Parallel()
	hub := hubspottest.NewServer()
	defer hub.Close()
	hub.SetAccessToken("62515", staticToken)
	const key = "hap_clients-key-that-nobody-else-has-00000000000000"
	seed := filepath.Join(t.TempDir(), "seed.yaml")
	if err := os.WriteFile(seed, []byte("portals: [{id: 62515, access_token: "+staticToken+"}]\nclients: [{name: a, key: "+key+", portals: [62515]}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := launch(t, "serve", "UPSTREAM_URL="+hub.URL, "ACCESS_LOG=false", "ALLOW_ANONYMOUS=false", "MAX_CONNECTIONS=3", "SEED_FILE="+seed)
	address := p.address()
	for range 3 {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		_, _ = io.WriteString(conn, "POST /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n")
	}
	ask, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/a", nil)
	ask.Header.Set("Authorization", "Bearer "+key)
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 4 * time.Second}
	response, err := client.Do(ask)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Errorf("%d", response.StatusCode)
	}
}
