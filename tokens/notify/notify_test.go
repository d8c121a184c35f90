package notify_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/notify"
	"hubspot-auth-proxy/tokens/secret"
	"hubspot-auth-proxy/tokens/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// canary is in the address, and in what it answers.
const canary = "notify-canary"

// rig is a notifier before a server that answers the notifications.
type rig struct {
	*testing.T
	*notify.Notifier
	server  *httptest.Server
	metrics *prometheus.Registry
	log     testkit.Output

	mu  sync.Mutex
	got []string // paths and bodies
}

// newRig starts both. The function answers the n-th request, from 1.
func newRig(t *testing.T, answer func(w http.ResponseWriter, r *http.Request, n int)) *rig {
	t.Helper()
	r := &rig{T: t, metrics: prometheus.NewRegistry()}
	r.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		body, _ := io.ReadAll(request.Body)
		r.mu.Lock()
		r.got = append(r.got, request.Method+" "+request.URL.RequestURI()+" "+request.Header.Get("Content-Type")+" "+string(body))
		n := len(r.got)
		r.mu.Unlock()
		if answer != nil {
			answer(w, request, n)
		}
	}))
	t.Cleanup(r.server.Close)
	r.open(r.server.URL + "/" + canary + "?key=" + canary)
	return r
}

func (r *rig) open(url string) {
	core := zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), &r.log, zap.DebugLevel)
	r.Notifier = notify.New(notify.Options{
		URL: secret.New(url), Pauses: []time.Duration{time.Millisecond, 2 * time.Millisecond}, Log: zap.New(core), Metrics: r.metrics,
	})
}

func (r *rig) requests() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.got
}

// finish closes the notifier, and checks that nothing of the address or of its
// answers is in the log, in a metric or in the error.
func (r *rig) finish(within time.Duration) error {
	r.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	err := r.Close(ctx)
	families, gathered := r.metrics.Gather()
	all := fmt.Sprint(&r.log, err, families, gathered)
	for _, bad := range []string{canary, strings.TrimPrefix(r.server.URL, "http://"), "127.0.0.1"} {
		if strings.Contains(all, bad) {
			r.Errorf("%s is logged: %s", bad, all)
		}
	}
	return err
}

// counts checks how many notifications have come to each end.
func (r *rig) counts(delivered, failed, lost int) {
	r.Helper()
	want := []float64{float64(delivered), float64(failed), float64(lost)}
	if got := []float64{r.count("delivered"), r.count("failed"), r.count("lost")}; !slices.Equal(got, want) {
		r.Errorf("delivered, failed, lost: %v, want %v", got, want)
	}
}

// count returns how many notifications have come to that end.
func (r *rig) count(outcome string) float64 {
	r.Helper()
	families, err := r.metrics.Gather()
	if err != nil || len(families) != 1 || families[0].GetName() != "hubspot_auth_proxy_notifications_total" {
		r.Fatalf("metrics %v, %v", families, err)
	}
	for _, m := range families[0].GetMetric() {
		if m.GetLabel()[0].GetValue() == outcome {
			return m.GetCounter().GetValue()
		}
	}
	r.Fatalf("there is no %s in %v", outcome, families)
	return 0
}

var (
	at    = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	ended = tokens.GrantChange{Portal: "62515", State: tokens.Ended, Code: "BAD_REFRESH_TOKEN", At: at}
	again = tokens.GrantChange{Portal: "62515", State: tokens.Active, At: at.Add(time.Hour)}
)

func TestChangesAreSentInTheirOrder(t *testing.T) {
	const many = 20
	r := newRig(t, nil)
	for range many {
		r.Changed(ended)
		r.Changed(again)
	}
	if err := r.finish(10 * time.Second); err != nil {
		t.Error(err)
	}
	begin := "POST /" + canary + "?key=" + canary + " application/json "
	want := slices.Repeat([]string{
		begin + `{"portal":"62515","state":"ended","code":"BAD_REFRESH_TOKEN","at":"2026-11-28T12:00:00Z"}`,
		begin + `{"portal":"62515","state":"active","at":"2026-11-28T13:00:00Z"}`,
	}, many)
	if diff := cmp.Diff(want, r.requests()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	r.counts(2*many, 0, 0)
	if r.log.String() != "" {
		t.Errorf("logged %s", &r.log)
	}
}

func TestANotificationIsTriedThreeTimes(t *testing.T) {
	for name, tt := range map[string]struct {
		answer func(w http.ResponseWriter, r *http.Request, n int)
		tries  int
		cause  string // empty: it is delivered
	}{
		"taken at the third try": {func(w http.ResponseWriter, _ *http.Request, n int) {
			if n < 3 {
				http.Error(w, canary, http.StatusServiceUnavailable)
			}
		}, 3, ""},
		"204": {func(w http.ResponseWriter, _ *http.Request, _ int) { w.WriteHeader(http.StatusNoContent) }, 1, ""},
		"500": {func(w http.ResponseWriter, _ *http.Request, _ int) { http.Error(w, canary, 500) }, 3, "it answers 500"},
		"404": {func(w http.ResponseWriter, _ *http.Request, _ int) { http.Error(w, canary, 404) }, 3, "it answers 404"},
		"redirect": {func(w http.ResponseWriter, r *http.Request, _ int) {
			http.Redirect(w, r, "/else-"+canary, http.StatusTemporaryRedirect)
		}, 3, "it answers with a redirect"},
		"no HTTP": {func(w http.ResponseWriter, _ *http.Request, _ int) {
			conn, _, _ := w.(http.Hijacker).Hijack()
			_, _ = io.WriteString(conn, canary+"\r\n\r\n")
			_ = conn.Close()
		}, 3, secret.Cause(errors.New("not known")).Error()},
		"closed": {func(http.ResponseWriter, *http.Request, int) { panic(http.ErrAbortHandler) }, 3, "the connection was closed"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, tt.answer)
			r.Changed(ended)
			if err := r.finish(10 * time.Second); err != nil {
				t.Error(err)
			}
			if got := r.requests(); len(got) != tt.tries || strings.Contains(strings.Join(got, " "), "else") {
				t.Errorf("requests %q", got)
			}
			if tt.cause == "" {
				r.counts(1, 0, 0)
				return
			}
			r.counts(0, 1, 0)
			r.logged(tt.cause, 3)
		})
	}
}

// logged checks the line about a notification that failed.
func (r *rig) logged(cause string, tries int) {
	r.Helper()
	var line struct {
		Level, Portal, State, Cause string
		Tries                       int
	}
	if err := json.Unmarshal([]byte(r.log.String()), &line); err != nil {
		r.Fatalf("%v: %s", err, &r.log)
	}
	if line.Level != "warn" || line.Portal != "62515" || line.State != "ended" || line.Tries != tries || !strings.HasPrefix(line.Cause, cause) {
		r.Errorf("logged %+v, want cause %q", line, cause)
	}
}

func TestWhyAnAddressIsNotReachedIsLoggedWithoutIt(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	untrusted := httptest.NewTLSServer(nil)
	defer untrusted.Close()
	old := httptest.NewUnstartedServer(nil)
	old.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10}
	old.StartTLS()
	defer old.Close()
	plain := httptest.NewServer(nil)
	defer plain.Close()
	for address, cause := range map[string]string{
		"http://" + closed.Addr().String() + "/" + canary: "it cannot be reached",
		old.URL + "/" + canary:                            "the TLS handshake fails",
		untrusted.URL + "/" + canary:                      "its certificate is not valid",
		"https" + strings.TrimPrefix(plain.URL, "http"):   "the other side does not use TLS",
		"https://" + canary + ".invalid/":                 "its host name is not found",
		"http://%zz/" + canary:                            "the address is not a URL",
	} {
		r := newRig(t, nil)
		_ = r.Close(t.Context())
		r.metrics = prometheus.NewRegistry()
		r.open(address)
		r.Changed(ended)
		if err := r.finish(10 * time.Second); err != nil {
			t.Error(err)
		}
		r.counts(0, 1, 0)
		r.logged(cause, 3)
	}
}

func TestAHangingAddressHoldsUpNobodyAndNotTheEnd(t *testing.T) {
	done := make(chan struct{})
	r := newRig(t, func(_ http.ResponseWriter, request *http.Request, _ int) {
		select {
		case <-request.Context().Done():
		case <-done:
		}
	})
	defer close(done)
	const many = 3000
	began := time.Now()
	for range many {
		r.Changed(ended)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v to leave %d", took, many)
	}
	began = time.Now()
	if err := r.finish(100 * time.Millisecond); err == nil {
		t.Error("no error, although notifications were given up")
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the end took %v", took)
	}
	failed := r.count("failed")
	lost := r.count("lost")
	if failed+lost != many || lost == 0 || failed == 0 {
		t.Errorf("%v failed, %v lost, of %d", failed, lost, many)
	}
	r.Changed(ended) // after the end: lost, and no panic
	if got := r.count("lost"); got != lost+1 {
		t.Errorf("after the end %v are lost", got)
	}
}
