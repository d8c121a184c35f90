package faults

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"hubspot-auth-proxy/tokens/hubspottest"
)

// replica is one process of the program.
type replica struct {
	t              *testing.T
	cmd            *exec.Cmd
	printed        output
	ended          chan struct{} // closed when it has
	address, admin string
}

// output is what a process has printed so far.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

var ready = regexp.MustCompile(`"the proxy is ready","address":"([^"]+)","admin":"([^"]+)"`)

// launch runs the program until the test ends, and returns when it is ready.
func launch(t *testing.T, settings []string) *replica {
	t.Helper()
	r := &replica{t: t, cmd: exec.Command(os.Getenv(binary)), ended: make(chan struct{})}
	r.cmd.Dir = t.TempDir()
	r.cmd.Env = append([]string{"LISTEN_ADDR=127.0.0.1:0", "ADMIN_ADDR=127.0.0.1:0", "ACCESS_LOG=false", "GORACE=halt_on_error=1 atexit_sleep_ms=0"}, settings...)
	r.cmd.Stdout, r.cmd.Stderr = &r.printed, &r.printed
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(r.ended)
		_ = r.cmd.Wait()
	}()
	t.Cleanup(func() {
		r.kill()
		for _, bad := range []string{hubspottest.Canary, "panic", "DATA RACE"} {
			if strings.Contains(r.printed.String(), bad) {
				t.Errorf("the program has printed %q:\n%s", bad, &r.printed)
			}
		}
		if t.Failed() {
			t.Logf("the program at %s printed\n%s", r.address, &r.printed)
		}
	})
	eventually(t, 30*time.Second, "the program is ready", func() bool {
		found := ready.FindStringSubmatch(r.printed.String())
		if found != nil {
			r.address, r.admin = found[1], found[2]
		}
		return found != nil
	})
	return r
}

// kill ends the process with SIGKILL, and returns when it is gone.
func (r *replica) kill() {
	_ = r.cmd.Process.Kill()
	<-r.ended
}

// metric returns the sum of a metric's samples whose labels have the text; 0
// if there is none.
func (r *replica) metric(name, label string) (sum float64) {
	r.t.Helper()
	response, err := plain.Get("http://" + r.admin + "/metrics")
	if err != nil {
		r.t.Fatal(err)
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		labels, found := strings.CutPrefix(lines.Text(), name)
		if fields := strings.Fields(labels); found && len(fields) > 0 && strings.Contains(labels, label) {
			value, _ := strconv.ParseFloat(fields[len(fields)-1], 64)
			sum += value
		}
	}
	return sum
}

// seesRedis reports whether the replica says that Redis answers, and has
// nothing that is not stored there.
func (r *replica) seesRedis() bool {
	return r.metric("hubspot_auth_proxy_redis_up", "") == 1 && r.metric("hubspot_auth_proxy_unsaved_portals", "") == 0
}

// plain is a client that keeps no connections.
var plain = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 30 * time.Second}

// call sends one request and returns what came of it, with a connection of its
// own.
func (r *replica) call(method, target string) result { return send(plain, r, method, target) }

// send sends one request and returns what came of it.
func send(client *http.Client, r *replica, method, target string) result {
	body := ""
	if method != http.MethodGet && method != http.MethodDelete {
		body = `{"properties":{}}`
	}
	request, err := http.NewRequestWithContext(context.Background(), method, "http://"+r.address+target, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	began := time.Now()
	response, err := client.Do(request)
	if err != nil {
		return result{replica: r, method: method, target: target, began: began, ended: time.Now(), err: err}
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return result{
		replica: r, method: method, target: target, began: began, ended: time.Now(), status: response.StatusCode,
		header: response.Header, body: string(text), err: err,
	}
}

// eventually looks every few milliseconds until something is so.
func eventually(t *testing.T, within time.Duration, what string, condition func() bool) {
	t.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	timeout := time.After(within)
	for !condition() {
		select {
		case <-ticker.C:
		case <-timeout:
			t.Fatalf("%s: not within %v", what, within)
		}
	}
}
