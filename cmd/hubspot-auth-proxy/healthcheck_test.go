package main

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"hubspot-auth-proxy/tokens/hubspottest"
)

// checkHealth runs the command healthcheck.
func checkHealth(t *testing.T, addr string, flags ...string) error {
	t.Helper()
	return run(t.Context(), append([]string{"healthcheck"}, flags...), []string{"ADMIN_ADDR=" + addr}, nil, io.Discard, io.Discard)
}

func TestAHealthcheckReportsWhetherTheProxyIsReady(t *testing.T) {
	t.Parallel()
	hub := hubspottest.NewServer()
	defer hub.Close()
	admin := freePort(t)

	starting := launch(t, "serve", "REDIS_URL=redis://127.0.0.1:1", "ADMIN_ADDR="+admin)
	starting.until(`waits for Redis`)
	if err := checkHealth(t, admin); err == nil || !strings.Contains(err.Error(), `answers 503 to /readyz: {`) || !strings.Contains(err.Error(), `"redis":"awaited"`) {
		t.Errorf("starting: %v", err)
	}
	if err := checkHealth(t, admin, "--live"); err != nil {
		t.Errorf("starting, live: %v", err)
	}
	starting.terminate()
	starting.exit()
	if err := checkHealth(t, admin, "--live"); err == nil || !strings.HasPrefix(err.Error(), "nothing listens on "+admin+";") {
		t.Errorf("gone: %v", err)
	}

	// A proxy that listens on all addresses is asked on loopback.
	_, port, _ := net.SplitHostPort(admin)
	serving := launch(t, "serve", append(oauth(hub), "ADMIN_ADDR=:"+port, "SHUTDOWN_DELAY=1m")...)
	serving.address()
	for _, host := range []string{"", "0.0.0.0", "localhost"} {
		if err := checkHealth(t, host+":"+port); err != nil {
			t.Errorf("serving, ADMIN_ADDR=%s: %v", host+":"+port, err)
		}
	}
	serving.terminate()
	serving.until(`"stopping"`)
	if err := checkHealth(t, ":"+port); err == nil || !strings.Contains(err.Error(), `"status":"stopping"`) {
		t.Errorf("stopping: %v", err)
	}
	if err := checkHealth(t, ":"+port, "--live"); err != nil {
		t.Errorf("stopping, live: %v", err)
	}
}

func TestAHealthcheckRecognizesOtherPrograms(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		answer http.HandlerFunc
		want   string
	}{
		{"another program", http.NotFound, "answers 404 to /readyz, and the answer is not one of this program"},
		{"a redirect", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/readyz" {
				http.Redirect(w, r, "/elsewhere", http.StatusFound)
			}
		}, "answers 302 to /readyz"},
		{"several lines", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = io.WriteString(w, "{\n  \"status\": \"starting\"\n}\n")
		}, `answers 503 to /readyz: {"status":"starting"};`},
		{"no HTTP at all", func(w http.ResponseWriter, _ *http.Request) {
			conn, _, _ := http.NewResponseController(w).Hijack()
			_, _ = io.WriteString(conn, "SSH-2.0\r\n")
			_ = conn.Close()
		}, "no answer from "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := httptest.NewServer(tt.answer)
			defer server.Close()
			err := checkHealth(t, server.Listener.Addr().String())
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

func TestAHealthcheckTimesOutIfTheProxyHangs(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if err := checkHealth(t, listener.Addr().String()); err == nil || !strings.Contains(err.Error(), "within 3s") {
		t.Error(err)
	}
}
