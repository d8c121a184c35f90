package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/redistest"
	"hubspot-auth-proxy/tokens/testkit"
)

// administer returns a function that runs one of the blocks of shell in a section of
// tokens/README.md, as a person in a new folder would, and returns what the block prints.
func administer(t *testing.T, section string, blocks int, environ ...string) func(block int) (printed string) {
	t.Helper()
	testkit.Need(t, "redis-cli")
	scripts := sections(t, "tokens/README.md")[section]
	if len(scripts) != blocks {
		t.Fatalf("the section %q has %d blocks of shell", section, len(scripts))
	}
	folder := t.TempDir()
	return func(block int) string {
		t.Helper()
		ctx, end := context.WithTimeout(t.Context(), testkit.Timeout)
		defer end()
		cmd := exec.CommandContext(ctx, "bash", "-c", scripts[block])
		cmd.Dir, cmd.Env = folder, append(os.Environ(), environ...)
		printed, err := cmd.CombinedOutput()
		if exit, ended := err.(*exec.ExitError); err != nil && !(ended && exit.ExitCode() == 1 && len(printed) == 0) { // grep found nothing
			t.Fatalf("%s\nprinted %s\n%v", scripts[block], printed, err)
		}
		return string(printed)
	}
}

func TestRedisIsMovedWithoutAFailedCall(t *testing.T) {
	t.Parallel()
	const held = 2000
	old, next := redistest.Start(t), redistest.Start(t, redistest.Young())
	oldHost, oldPort, _ := net.SplitHostPort(old.Addr)
	admin := administer(t, "Moving to another Redis", 2,
		"OLD=redis://"+old.Addr, "OLD_HOST="+oldHost, "OLD_PORT="+oldPort, "NEW=redis://"+next.Addr)
	hub := newHoldingHub(t)
	hub.SetToken(hubspottest.TokenBehaviour{Life: 20 * time.Second, Rotate: true})
	hub.SetAccessToken("7", staticToken)
	settings := append(oauth(hub.Server), "UPSTREAM_URL="+hub.front, "SHUTDOWN_DELAY=5s", "MAX_CONNECTIONS=5000", "MAX_REQUESTS=5000", "ACCESS_LOG=false")
	enter(t, []string{"REDIS_URL=" + old.URL()}, staticToken, "portal", "set", "7", "access_token") // no client calls this portal

	b := newBalancer(t)
	before := []*replica{startReplica(t, append(settings, "REDIS_URL="+old.URL())), startReplica(t, append(settings, "REDIS_URL="+old.URL()))}
	b.set(before)
	testkit.Eventually(t, "both are ready", func() bool { return b.ready() == 2 })
	callers := newCallers(t, balanceRequests(t, b), 20)
	waiting := hub.hold(held, before)

	admin(0)
	var after []*replica
	for range before {
		after = append(after, startReplica(t, append(settings, "REDIS_URL="+next.URL())))
	}
	b.set(append(after, before...))
	testkit.Eventually(t, "all are ready", func() bool { return b.ready() == 4 })
	for _, r := range before {
		r.terminate()
		r.until(`"stopping"`)
	}
	hub.release()
	for _, conn := range waiting {
		if err := answered(conn); err != nil {
			t.Fatalf("one of the calls that waited for HubSpot: %v", err)
		}
	}
	for _, r := range before {
		if status := r.exit(); status != 0 {
			t.Errorf("exit status %d:\n%s", status, r.stderr.String())
		}
	}
	b.set(after)
	if printed := admin(1); printed != "" {
		t.Errorf("processes use the old server still:\n%s", printed)
	}
	old.Kill()
	renewals := hub.TokenCalls("62515")
	hub.Expire("62515")
	testkit.Eventually(t, "there is another renewal", func() bool { return hub.TokenCalls("62515") > renewals })
	if r := after[0].portal("7", ""); !r.served("7") {
		t.Errorf("a portal that nobody had called: %v", r)
	}
	succeeded, failed := callers.stop()
	if len(failed) > 0 || succeeded < 100 {
		t.Errorf("%d of %d requests failed: %q", len(failed), succeeded+len(failed), failed[:min(5, len(failed))])
	}
	t.Logf("%d calls waited, %d went through, %d renewals", held, succeeded, hub.TokenCalls("62515"))
}

// enter runs a command of the program.
func enter(t *testing.T, environ []string, stdin string, args ...string) {
	t.Helper()
	if err := run(t.Context(), args, environ, strings.NewReader(stdin), io.Discard, io.Discard); err != nil {
		t.Fatalf("%q: %v", args, err)
	}
}

// holdingHub is a fake HubSpot that holds calls of /held until it releases them.
type holdingHub struct {
	*hubspottest.Server
	t       *testing.T
	front   string // the URL at which it holds calls
	holds   atomic.Int64
	waiting chan struct{} // closed by release
}

func newHoldingHub(t *testing.T) *holdingHub {
	h := &holdingHub{Server: hubspottest.NewServer(), t: t, waiting: make(chan struct{})}
	t.Cleanup(h.Close)
	target, err := url.Parse(h.URL)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 100}
	forward := &httputil.ReverseProxy{Transport: transport, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/held" {
			forward.ServeHTTP(w, r)
			return
		}
		h.holds.Add(1)
		select {
		case <-h.waiting:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(func() {
		server.Close()
		transport.CloseIdleConnections()
	})
	h.front = server.URL
	return h
}

// hold sends this number of calls, divided among the processes, and returns their
// connections when all calls have reached HubSpot.
func (h *holdingHub) hold(calls int, processes []*replica) (conns []net.Conn) {
	h.t.Helper()
	for i := range calls {
		conn, err := net.Dial("tcp", processes[i%len(processes)].listen)
		if err != nil {
			h.t.Fatal(err)
		}
		h.t.Cleanup(func() { _ = conn.Close() })
		if _, err := io.WriteString(conn, "GET /held HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
			h.t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	testkit.Eventually(h.t, "all wait for HubSpot", func() bool { return h.holds.Load() == int64(calls) })
	return conns
}

func (h *holdingHub) release() { close(h.waiting) }

// answered returns an error unless the call on the connection is answered 200.
func answered(conn net.Conn) error {
	_ = conn.SetReadDeadline(time.Now().Add(testkit.Timeout))
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil || response.StatusCode != http.StatusOK {
		return fmt.Errorf("%v, %w", response.Status, err)
	}
	return nil
}

func TestABackupIsRestored(t *testing.T) {
	t.Parallel()
	s := newStage(t, redistest.Persist())
	s.hub.SetToken(hubspottest.TokenBehaviour{Rotate: true})
	s.hub.SetAccessToken("7", staticToken)
	admin := administer(t, "Backup, and restoring it", 3, "REDIS=redis://"+s.redis.Addr, "DIR="+s.redis.Dir())
	environ := []string{"REDIS_URL=" + s.redis.URL()}
	enter(t, environ, s.hub.Connect("62515"), "portal", "set", "62515", "refresh_token")
	enter(t, environ, staticToken, "portal", "set", "7", "access_token") // no process has read this portal
	p := s.launch()
	if r := p.portal("62515", ""); !r.served("62515") {
		t.Fatal(r)
	}

	admin(0)
	s.hub.Expire("62515")
	if r := p.portal("62515", ""); !r.served("62515") || s.hub.TokenCalls("62515") != 2 {
		t.Fatal(r, "it is not renewed")
	}
	s.redis.Kill()
	admin(1)
	s.redis.RestartWith("--appendonly", "no")
	admin(2)

	testkit.Eventually(t, "what was renewed after the backup is stored again", func() bool {
		return s.redis.Do("HGET", "hubspot:portal:{62515}", "renewed_for") == "rejection"
	})
	testkit.Eventually(t, "the server keeps what it has again", func() bool {
		return strings.Contains(s.redis.Do("INFO", "persistence"), "aof_rewrite_in_progress:0")
	})
	s.redis.Restart()
	p.terminate()
	p.exit()
	next := s.launch()
	for _, portal := range []string{"62515", "7"} {
		if r := next.portal(portal, ""); !r.served(portal) {
			t.Errorf("portal %s of a new process: %v", portal, r)
		}
	}
}
