package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/testkit"
)

// A process is a running program.
type process struct {
	*exec.Cmd
	t      *testing.T
	stdout testkit.Output
	stderr testkit.Output
	done   <-chan struct{} // closed when it has ended
}

// launch runs the program with the settings, in an empty folder and on free ports, until the end
// of the test at the latest.
func launch(t *testing.T, command string, settings ...string) *process {
	t.Helper()
	return launchWith(t, func(*exec.Cmd) {}, command, settings...)
}

// launchWith is launch with a change of the command before it starts.
func launchWith(t *testing.T, change func(*exec.Cmd), command string, settings ...string) *process {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	p := &process{Cmd: exec.CommandContext(ctx, os.Args[0], command), t: t}
	p.Dir = t.TempDir()
	p.Env = append([]string{runMain + "=1", "LISTEN_ADDR=127.0.0.1:0", "ADMIN_ADDR=127.0.0.1:0", "PATH=" + os.Getenv("PATH")}, settings...)
	p.Stdout, p.Stderr = &p.stdout, &p.stderr
	change(p.Cmd)
	var err error
	if p.done, err = testkit.Run(p.Cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		<-p.done
	})
	return p
}

// until waits until the output of the process matches the pattern, and returns the groups of the
// match.
func (p *process) until(pattern string) []string {
	p.t.Helper()
	expression := regexp.MustCompile(pattern)
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); <-time.After(10 * time.Millisecond) {
		if groups := expression.FindStringSubmatch(p.stdout.String() + p.stderr.String()); groups != nil {
			return groups
		}
	}
	p.t.Fatalf("the program never printed %q, but:\n%s%s", pattern, p.stdout.String(), p.stderr.String())
	return nil
}

// address waits until the proxy listens, and returns its address.
func (p *process) address() string {
	p.t.Helper()
	return p.until(`"the proxy is ready".*?"address":"([^"]+)"`)[1]
}

// exit waits until the process ends, and returns its exit status.
func (p *process) exit() int {
	p.t.Helper()
	<-p.done
	return p.ProcessState.ExitCode()
}

// terminate sends SIGTERM.
func (p *process) terminate() {
	p.t.Helper()
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
}

// oauth returns the settings of an OAuth portal of the fake HubSpot.
func oauth(hub *hubspottest.Server) []string {
	return []string{
		"UPSTREAM_URL=" + hub.URL,
		"HUBSPOT_CLIENT_ID=" + hubspottest.ClientID,
		"HUBSPOT_CLIENT_SECRET=" + hubspottest.ClientSecret,
		"HUBSPOT_PORTAL_ID=62515",
		"HUBSPOT_REFRESH_TOKEN=" + hub.Connect("62515"),
	}
}

func get(t *testing.T, url string) (status int, body string) {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

func TestATokenFromTheEnvironmentIsEnough(t *testing.T) {
	t.Parallel()
	hub := hubspottest.NewServer()
	defer hub.Close()
	hub.SetAccessToken("62515", "pat-na1-"+hubspottest.Canary)
	p := launch(t, "serve", "UPSTREAM_URL="+hub.URL, "HUBSPOT_ACCESS_TOKEN=pat-na1-"+hubspottest.Canary)
	status, body := get(t, "http://"+p.address()+"/crm/v3/objects/contacts")
	echo, err := hubspottest.DecodeEcho(strings.NewReader(body))
	if err != nil || status != http.StatusOK || echo.Portal != "62515" || echo.Credential != hubspottest.CredentialAccessToken {
		t.Errorf("status %d, %v, portal %q, credential %q", status, err, echo.Portal, echo.Credential)
	}
}

func TestOnLoopbackTheHostNameNamesThePortal(t *testing.T) {
	t.Parallel()
	hub := hubspottest.NewServer()
	defer hub.Close()
	p := launch(t, "serve", append(oauth(hub), "LOG_FORMAT=console")...)
	address := p.until(`the proxy is ready.*?"address": "([^"]+)"`)[1]
	for host, want := range map[string]int{"62515.localhost": http.StatusOK, "localhost": http.StatusOK, "www.localhost": http.StatusBadRequest, "1.localhost": http.StatusForbidden} {
		request, _ := http.NewRequest(http.MethodGet, "http://"+address+"/a\u009b2J", nil)
		request.URL.Opaque, request.Host = "/a\u009b2J", host
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("%s: status %d, want %d", host, response.StatusCode, want)
		}
	}
	p.until(`a\\\\u009b2J`)
	if strings.Contains(p.stderr.String(), "\u009b") {
		t.Errorf("the log has a control character:\n%q", p.stderr.String())
	}
}

func TestAfterSIGTERMRequestsUnderWayAreFinished(t *testing.T) {
	t.Parallel()
	hub := hubspottest.NewServer()
	defer hub.Close()
	p := launch(t, "serve", oauth(hub)...)
	address := p.address()
	response, err := http.Get("http://" + address + "/fake/events?n=2")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	events := bufio.NewReader(response.Body)
	if line, err := events.ReadString('\n'); err != nil {
		t.Fatalf("first event: %q, %v", line, err)
	}
	p.terminate()
	p.until(`"stopping"`)
	testkit.Eventually(t, "new connections are refused", func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close()
		}
		return errors.Is(err, syscall.ECONNREFUSED)
	})
	hub.NextEvent()
	rest, err := io.ReadAll(events)
	if err != nil || !strings.Contains(string(rest), "data:") {
		t.Errorf("the request under way ended with %q, %v", rest, err)
	}
	if status := p.exit(); status != 0 {
		t.Errorf("exit status %d:\n%s", status, p.stderr.String())
	}
}

func TestASecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	hub := hubspottest.NewServer()
	defer hub.Close()
	p := launch(t, "serve", append(oauth(hub), "SHUTDOWN_DELAY=1m")...)
	p.address()
	p.terminate()
	p.until(`"stopping"`)
	p.terminate()
	began := time.Now()
	<-p.done
	if elapsed := time.Since(began); elapsed > 30*time.Second {
		t.Errorf("it took %v", elapsed)
	}
}

func TestReadyzReportsWhetherTheProxyCanServe(t *testing.T) {
	t.Parallel()
	hub := hubspottest.NewServer()
	defer hub.Close()
	admin := freePort(t)
	waiting := launch(t, "serve", "REDIS_URL=redis://127.0.0.1:1", "ADMIN_ADDR="+admin)
	waiting.until(`waits for Redis`)
	if status, body := get(t, "http://"+admin+"/readyz"); status != http.StatusServiceUnavailable || !strings.Contains(body, `"redis":"awaited"`) {
		t.Errorf("waiting for Redis: status %d, %s", status, body)
	}
	if status, _ := get(t, "http://"+admin+"/healthz"); status != http.StatusOK {
		t.Errorf("healthz: status %d", status)
	}
	waiting.terminate()
	if status := waiting.exit(); status != 0 {
		t.Errorf("SIGTERM while waiting: exit status %d", status)
	}

	serving := launch(t, "serve", append(oauth(hub), "ADMIN_ADDR="+admin)...)
	serving.address()
	status, body := get(t, "http://"+admin+"/readyz")
	var parts map[string]string
	if err := json.Unmarshal([]byte(body), &parts); err != nil || status != http.StatusOK || parts["redis"] != "not used: everything is in memory" {
		t.Errorf("serving: status %d, %s", status, body)
	}
}

func TestAnAddressInUseIsReported(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	p := launch(t, "serve", "LISTEN_ADDR="+listener.Addr().String())
	if status := p.exit(); status != 1 || !strings.Contains(p.stderr.String(), "listen at LISTEN_ADDR; another program has the port: give another one") {
		t.Errorf("exit status %d:\n%s", status, p.stderr.String())
	}
}

func TestAnAddressOfAnotherMachineIsReported(t *testing.T) {
	t.Parallel()
	p := launch(t, "serve", "LISTEN_ADDR=192.0.2.1:8080") // RFC 5737: no machine has this address
	if status := p.exit(); status != 1 || !strings.Contains(p.stderr.String(), "listen at LISTEN_ADDR; this machine does not have the address: give an address of this machine") {
		t.Errorf("exit status %d:\n%s", status, p.stderr.String())
	}
}

func TestExceptOnLoopbackClientsNeedAKeyByDefault(t *testing.T) {
	t.Parallel()
	hub := hubspottest.NewServer()
	defer hub.Close()
	p := launch(t, "serve", append(oauth(hub), "ALLOW_ANONYMOUS=false")...)
	status, body := get(t, "http://"+p.address()+"/crm/v3/objects/contacts")
	if status != http.StatusUnauthorized || !strings.Contains(body, "CLIENT_UNAUTHENTICATED") {
		t.Errorf("status %d, %s", status, body)
	}
	for address, want := range map[string]bool{"127.0.0.1": true, "::1": true, "0.0.0.0": false, "::": false, "192.0.2.1": false} {
		if got := isLoopback(stubListener{net.ParseIP(address)}); got != want {
			t.Errorf("isLoopback(%s) = %v", address, got)
		}
	}
}

// A stubListener has an address on which tests must not listen.
type stubListener struct{ ip net.IP }

func (l stubListener) Addr() net.Addr          { return &net.TCPAddr{IP: l.ip, Port: 8080} }
func (stubListener) Accept() (net.Conn, error) { return nil, net.ErrClosed }
func (stubListener) Close() error              { return nil }

func TestNothingThatIsPrintedHasASecret(t *testing.T) {
	t.Parallel()
	hub := hubspottest.NewServer()
	defer hub.Close()
	p := launch(t, "serve", append(oauth(hub), "LOG_LEVEL=debug")...)
	base := "http://" + p.address()
	for _, path := range []string{"/a?hapikey=" + hubspottest.Canary, "/oauth/v1/access-tokens/" + hubspottest.Canary, "/portals/9/x", "/fake/reset", "/fake/malformed", "/fake/status?code=500"} {
		_, _ = get(t, base+path)
	}
	hub.SetToken(hubspottest.TokenBehaviour{Code: "BAD_REFRESH_TOKEN"})
	hub.Expire("62515")
	_, _ = get(t, base+"/a")
	p.terminate()
	if status := p.exit(); status != 0 {
		t.Errorf("exit status %d", status)
	}
	printed := p.stdout.String() + p.stderr.String()
	if strings.Count(printed, `"request"`) < 6 {
		t.Errorf("there should be a line for each request:\n%s", printed)
	}
	if strings.Contains(printed, hubspottest.Canary) {
		t.Errorf("a secret is printed:\n%s", printed)
	}
}

func TestTheDemosLinesWorkWhenPasted(t *testing.T) {
	t.Parallel()
	testkit.Need(t, "curl")
	p := launch(t, "demo", "LISTEN_ADDR=:0") // as the image does, on all addresses
	p.until("Press Ctrl-C to stop")
	if strings.Contains(p.stderr.String(), "REDIS_URL") {
		t.Errorf("the log names settings that the demo does not read:\n%s", p.stderr.String())
	}
	if printed := p.stdout.String(); !strings.Contains(printed, "http://127.0.0.1:") || strings.Contains(printed, "[::") {
		t.Errorf("not only addresses of IPv4:\n%s", printed)
	}
	lines := regexp.MustCompile(`(?m)^  (curl .*)$`).FindAllStringSubmatch(p.stdout.String(), -1)
	want := []string{`"Portal": "62515"`, `"Portal": "62516"`, "expired", "X-Hubspot-Auth-Proxy-Attempts: 2"}
	if len(lines) != len(want) {
		t.Fatalf("there are %d curl lines:\n%s", len(lines), p.stdout.String())
	}
	for i, line := range lines {
		out, err := exec.Command("sh", "-c", line[1]).CombinedOutput()
		if err != nil || !strings.Contains(string(out), want[i]) {
			t.Errorf("%s\nprinted %s\n%v; want %s", line[1], out, err, want[i])
		}
	}
	p.terminate()
	if status := p.exit(); status != 0 {
		t.Errorf("exit status %d", status)
	}
}
