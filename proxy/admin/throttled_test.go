package admin_test

import (
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"hubspot-auth-proxy/proxy/admin"
	"hubspot-auth-proxy/proxy/clients"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/secret"
)

func TestRefusalsOfOneReasonAreLoggedTogetherWithTheirNumber(t *testing.T) {
	r := newRig(t, func(r *rig) { r.options.Password = secret.New(password) })
	const n = 50
	for range n {
		r.get("/connect", func(request *http.Request) {
			request.Header.Set("Sec-Fetch-Site", "cross-site")
			request.SetBasicAuth("admin", password)
		})
		r.get("/callback?state=x&code=y")
	}
	r.admin.Close()
	for _, reason := range []string{"other_site", "state_forged"} {
		times, lines := 0, r.logs.FilterField(zap.String("category", reason)).All()
		for _, line := range lines {
			if repeated, has := line.ContextMap()["repeated"].(int64); has {
				times += int(repeated)
			} else {
				times++
			}
		}
		if times != n || len(lines) > n/5 {
			t.Errorf("%s is logged %d times in %d lines, of %d", reason, times, len(lines), n)
		}
	}
}

func TestAPanicIsLoggedWithoutItsMessage(t *testing.T) {
	const n = 20
	r := newRig(t, func(r *rig) {
		r.options.Clients = func() []clients.Client {
			panic(hubspottest.Canary + "\n\ngoroutine 1 [running]:\n" + hubspottest.Canary)
		}
	})
	for range n {
		if response, err := r.browser.Get(r.server.URL + "/"); err == nil {
			_ = response.Body.Close()
			t.Fatal("it does not panic")
		}
	}
	r.server.Close()
	r.admin.Close()
	lines := r.logs.FilterMessage("a request to the admin listener ended in a panic").All()
	if len(lines) == 0 || len(lines) > n/2 || lines[0].Level != zapcore.ErrorLevel {
		t.Fatalf("%d lines", len(lines))
	}
	if stack, _ := lines[0].ContextMap()["stack"].(string); !strings.Contains(stack, "throttled_test.go:") {
		t.Errorf("the log does not name the place of the panic: %q", stack)
	}
	if strings.Contains(r.logged.String(), hubspottest.Canary) {
		t.Errorf("the log has the text of the panic:\n%s", r.logged)
	}
}

// unwilling is a listener whose Accept fails at first.
type unwilling struct{ failed bool }

func (*unwilling) Close() error   { return nil }
func (*unwilling) Addr() net.Addr { return &net.TCPAddr{} }

type temporary struct{ error }

func (temporary) Timeout() bool   { return false }
func (temporary) Temporary() bool { return true }

func (u *unwilling) Accept() (net.Conn, error) {
	if !u.failed {
		u.failed = true
		return nil, temporary{net.UnknownNetworkError("too many open files")}
	}
	return nil, net.ErrClosed
}

func TestAnErrorOfAcceptIsLogged(t *testing.T) {
	core, logs := observer.New(zapcore.WarnLevel)
	server, listener := admin.New(admin.Options{Log: zap.New(core)}).Server(&unwilling{})
	begun := time.Now()
	if err := server.Serve(listener); err == nil || time.Since(begun) > time.Second {
		t.Errorf("%v after %v", err, time.Since(begun))
	}
	if lines := logs.All(); len(lines) != 1 || !strings.Contains(lines[0].ContextMap()["error"].(string), "too many open files") {
		t.Errorf("logged %v", lines)
	}
}
