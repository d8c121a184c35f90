package proxy_test

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/testkit"
)

// logged returns how often the log reports something, and in how many lines.
func (l *logs) logged(t *testing.T, message string) (times, lines int) {
	t.Helper()
	for text := range strings.Lines(l.String()) {
		var line struct {
			Msg      string
			Repeated *int
		}
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if line.Msg != message {
			continue
		}
		lines++
		if line.Repeated == nil {
			times++
		} else {
			times += *line.Repeated
		}
	}
	return times, lines
}

func TestFailuresOfOneCauseAreLoggedTogetherAndAllCounted(t *testing.T) {
	const n = 500
	set, _ := upstream(t, new(mixedAPI).ServeHTTP)
	r := start(t, setup{proxy: set})
	r.seed(portalID, tokens.AccessToken, staticToken)
	for target, message := range map[string]string{"/reset/": "no answer from HubSpot", "/break/": "HubSpot broke off its answer"} {
		together(t, n, 20, func(int) error {
			_, err := r.exchange(r.request("POST", target, nil))
			if (err != nil) != (target == "/break/") {
				return errors.Join(err, errors.New("not what was to be seen"))
			}
			return nil
		})
		r.counted() // when all have ended
		r.proxy.Close()
		if times, lines := r.logs.logged(t, message); times != n || lines < 2 || lines > 5 {
			t.Errorf("%q is logged %d times in %d lines, of %d", message, times, lines, n)
		}
	}
}

// A flood of one kind must not hide another.
func TestErrorsOfTheServerAreLoggedTogetherByCause(t *testing.T) {
	const n = 30
	r := startKinds(t, setup{})
	server := r.proxy.Server()
	server.TLSConfig = &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		return nil, errors.New("there is none")
	}}
	secured := listen(t, func(l net.Listener) { _ = server.ServeTLS(l, "", "") })
	faulty := r.proxy.Server()
	faulty.Handler = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("a fault") })
	plain := listen(t, func(l net.Listener) { _ = faulty.Serve(l) })
	t.Cleanup(func() {
		_ = server.Close()
		_ = faulty.Close()
	})
	for range n {
		r.addr = secured
		_, _ = io.ReadAll(r.raw(head()))
		r.addr = plain
		_, _ = io.ReadAll(r.raw(head()))
	}
	for _, message := range []string{"a client's TLS handshake failed", "a request ended in a panic"} {
		testkit.Eventually(t, message, func() bool {
			r.proxy.Close()
			times, _ := r.logs.logged(t, message)
			return times == n
		})
		if _, lines := r.logs.logged(t, message); lines > n/2 {
			t.Errorf("%q is logged in %d lines", message, lines)
		}
	}
	if !strings.Contains(r.logs.String(), "TLS handshake error from 127.0.0.1:") || !strings.Contains(r.logs.String(), "a fault") {
		t.Errorf("the log does not say what was wrong:\n%s", r.logs)
	}
}

// listen serves on a port of its own until the server is closed.
func listen(t *testing.T, serve func(net.Listener)) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go serve(listener)
	return listener.Addr().String()
}
