package proxy_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hubspot-auth-proxy/proxy"
	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/secret"
)

// mixedPortals has a credential for every portal but some, and another one for
// portalID only, as often as that is asked for.
type mixedPortals struct{}

func (mixedPortals) Credential(_ context.Context, portal string) (*tokens.Credential, error) {
	switch portal {
	case "403":
		return nil, tokens.ErrNotConnected
	case "404":
		return nil, &tokens.EndedError{Portal: portal, Code: "BAD_HUB"}
	case "503":
		return nil, &tokens.UnavailableError{Portal: portal, RetryAfter: time.Second, Err: errors.New("away")}
	}
	return tokens.Static(portal, tokens.AccessToken, secret.New("first-token")), nil
}

func (mixedPortals) Renew(_ context.Context, rejected *tokens.Credential, _ bool) (*tokens.Credential, error) {
	if rejected.Portal != portalID {
		return nil, tokens.ErrNoOther
	}
	return tokens.Static(portalID, tokens.AccessToken, secret.New("second-token")), nil
}

// mixedAPI is a HubSpot that answers as a request's path says.
type mixedAPI struct{ leave sync.Map } // what lets the client of that number leave

func (m *mixedAPI) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	_, _ = io.Copy(io.Discard, q.Body)
	first := q.Header.Get("Authorization") == "Bearer first-token"
	kind, value := path.Split(q.URL.Path)
	switch kind {
	case "/status/":
		status, _ := strconv.Atoi(value)
		w.Header().Set("X-HubSpot-RateLimit-Remaining", strconv.Itoa(10+rand.IntN(100)))
		w.WriteHeader(status)
		_, _ = io.WriteString(w, "an answer")
	case "/limit/":
		w.WriteHeader(http.StatusTooManyRequests)
		fmt.Fprintf(w, `{"status":"error","policyName":%q}`, value)
	case "/reject/":
		switch {
		case first || value == "twice":
			w.WriteHeader(http.StatusUnauthorized)
		case value == "reset":
			cut(w)
		}
	case "/reset/":
		cut(w)
	case "/break/":
		_, _ = io.WriteString(w, "the beginning")
		_ = http.NewResponseController(w).Flush()
		cut(w)
	case "/leave/before/", "/leave/within/":
		if kind == "/leave/within/" {
			_, _ = io.WriteString(w, "the beginning")
			_ = http.NewResponseController(w).Flush()
		} else if leave, here := m.leave.Load(value); here {
			leave.(context.CancelFunc)()
		}
		<-q.Context().Done()
	}
}

// cut ends the connection, in good order but for HTTP.
func cut(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		_ = conn.Close()
	}
}

// mixedCalls are methods and paths, each with how many of a thousand it is.
var mixedCalls = []struct {
	call  string
	share int
}{
	{"GET /status/200", 240}, {"HEAD /status/200", 20}, {"POST /status/200", 150}, {"PUT /status/201", 40}, {"PATCH /status/200", 40}, {"DELETE /status/204", 60},
	{"PURGE /status/200", 10}, {"GET /status/302", 20}, {"GET /status/404", 60}, {"POST /status/409", 20}, {"GET /status/500", 30}, {"POST /status/503", 20},
	{"GET /limit/TEN_SECONDLY_ROLLING", 20}, {"POST /limit/SECONDLY", 20}, {"GET /limit/DAILY", 20}, {"DELETE /limit/NEW", 10}, {"HEAD /limit/DAILY", 5},
	{"GET /reject/once", 30}, {"POST /reject/once", 30}, {"GET /reject/twice", 15}, {"POST /reject/reset", 10}, {"GET /portals/7/reject/once", 15}, {"BIG /reject/once", 10},
	{"POST /reset/", 15}, {"GET /break/", 15}, {"GET /leave/before/#", 15}, {"POST /leave/within/#", 15},
	{"GET /portals/x/a", 10}, {"GET /portals/403/a", 5}, {"DELETE /portals/404/a", 5}, {"PUT /portals/503/a", 5}, {"TRACE /a", 10}, {"POST /portals/9/b", 10},
}

// callNumber returns the n-th call of the mix.
func callNumber(n int) (method, target string) {
	n = n * 7 % 1000 // so that neighbours differ
	for _, kind := range mixedCalls {
		if n -= kind.share; n < 0 {
			method, target, _ = strings.Cut(kind.call, " ")
			break
		}
	}
	return method, target
}

// tally is what clients have counted.
type tally struct {
	mu            sync.Mutex
	series        map[string]float64
	calls, errors int64
	lowest        float64
}

// saw is what a client saw of one call: response is nil if there was none.
type saw struct {
	method, target string
	response       *http.Response
	body           []byte
	left, broken   bool
}

func (c *tally) note(s saw) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls++
	method := map[string]string{"GET": "read", "HEAD": "read", "PURGE": "other", "TRACE": "other"}[s.method]
	if method == "" {
		method = "write"
	}
	if s.response == nil {
		c.series[requests(method, "499", "nobody", "")]++
		return
	}
	status, by := fmt.Sprintf("%dxx", s.response.StatusCode/100), "hubspot"
	category := s.response.Header.Get("X-Hubspot-Auth-Proxy-Error")
	if category != "" {
		by = "proxy"
	}
	if s.left {
		status = "499"
	}
	c.series[requests(method, status, by, category)]++
	if s.broken {
		c.series["broken_answers_total"]++
	}
	if code := s.response.StatusCode; !s.left && (by == "proxy" || code == 401 || code == 429 || code >= 500) {
		c.errors++
	}
	c.noteTries(s, by)
}

func (c *tally) noteTries(s saw, by string) {
	attempts, _ := strconv.Atoi(s.response.Header.Get("X-Hubspot-Auth-Proxy-Attempts"))
	answers := attempts
	if by == "proxy" && attempts > 0 {
		answers-- // the last one failed
	}
	c.series["hubspot_wait_seconds"] += float64(answers)
	status := s.response.StatusCode
	switch {
	case attempts == 2 && by == "proxy":
		c.series["second_tries_total outcome=failed"]++
	case attempts == 2 && status == 401:
		c.series["second_tries_total outcome=rejected"]++
	case attempts == 2:
		c.series["second_tries_total outcome=accepted"]++
	case by == "hubspot" && status == 401 && s.method == "BIG":
		c.series["second_tries_total outcome=body_too_long"]++
	case by == "hubspot" && status == 401:
		c.series["second_tries_total outcome=no_credential"]++
	}
	if by != "hubspot" {
		return
	}
	c.series["own_seconds"]++
	if status == 429 {
		var body struct{ PolicyName string }
		_ = json.Unmarshal(s.body, &body)
		if body.PolicyName == "" || body.PolicyName == "NEW" {
			body.PolicyName = "other"
		}
		c.series["hubspot_rate_limited_total policy="+body.PolicyName]++
	}
	if left, err := strconv.ParseFloat(s.response.Header.Get("X-HubSpot-RateLimit-Remaining"), 64); err == nil {
		c.lowest = min(c.lowest, left)
	}
}

// mixedCall does one call, and returns what came of it.
func (r *rig) mixedCall(api *mixedAPI, n int) (saw, error) {
	s := saw{}
	s.method, s.target = callNumber(n)
	target := strings.Replace(s.target, "#", strconv.Itoa(n), 1)
	ctx, leave := context.WithCancel(r.t.Context())
	defer leave()
	if strings.HasPrefix(target, "/leave/before/") {
		api.leave.Store(path.Base(target), leave)
	}
	var body io.Reader
	method := s.method
	switch method {
	case "POST", "PUT", "PATCH":
		body = strings.NewReader("a body")
	case "BIG":
		method, body = "POST", bytes.NewReader(bytesOf(20<<10, 0)) // more than RetryBodyLimit
	}
	request := r.request(method, target, body, "X-Hubspot-Auth-Proxy-Debug", "1").WithContext(ctx)
	response, err := r.client.Do(request)
	if err != nil {
		if !strings.HasPrefix(target, "/leave/before/") || !errors.Is(err, context.Canceled) {
			return s, fmt.Errorf("%s %s: %w", s.method, target, err)
		}
		return s, nil
	}
	defer response.Body.Close()
	s.response = response
	if strings.HasPrefix(target, "/leave/within/") {
		_, err = response.Body.Read(make([]byte, 1))
		s.left = true
		return s, err
	}
	s.body, err = io.ReadAll(response.Body)
	s.broken = err != nil
	if s.broken != strings.HasPrefix(target, "/break/") {
		return s, fmt.Errorf("%s %s: %w", s.method, target, err)
	}
	return s, nil
}

func TestMetricsAgreeWithWhatClientsCounted(t *testing.T) {
	n := volume(10_000, 2000)
	api := new(mixedAPI)
	set, _ := upstream(t, api.ServeHTTP)
	r := start(t, setup{proxy: func(o *proxy.Options) {
		set(o)
		o.Credentials = mixedPortals{}
		o.RetryBodyLimit = 16 << 10
		o.ServePortals = []string{portalID, "7", "403", "404", "503"}
	}})
	clients := tally{series: make(map[string]float64), lowest: 1000}
	together(t, n, 16, func(i int) error {
		s, err := r.mixedCall(api, i)
		if err == nil {
			clients.note(s)
		}
		return err
	})
	clients.series["hubspot_rate_limit_remaining"] = clients.lowest
	got := r.counted()
	if diff := cmp.Diff(clients.series, got); diff != "" {
		t.Errorf("metrics (-clients +proxy):\n%s", diff)
	}
	if len(got) < 30 {
		t.Errorf("only %d series: %v", len(got), got)
	}
	var calls, failures int64
	for _, minute := range r.activity.Minutes() {
		calls, failures = calls+minute.Calls, failures+minute.Errors
	}
	if calls != int64(n) || calls != clients.calls || failures != clients.errors {
		t.Errorf("the activity has %d calls and %d errors, clients %d and %d", calls, failures, clients.calls, clients.errors)
	}
	r.logAgrees(n, got)
}

// logAgrees fails the test unless the access log has the same statuses and
// categories as the metrics.
func (r *rig) logAgrees(n int, metrics map[string]float64) {
	r.t.Helper()
	key := func(status, category string) string { return status + " " + category }
	want, got := make(map[string]float64), make(map[string]float64)
	for name, value := range metrics {
		var method, status, by, category string
		if labels, is := strings.CutPrefix(name, "requests_total "); is {
			for label := range strings.FieldsSeq(labels) {
				name, value, _ := strings.Cut(label, "=")
				*map[string]*string{"method": &method, "status": &status, "answered_by": &by, "category": &category}[name] = value
			}
			want[key(status, category)] += value
		}
	}
	for _, line := range r.accessLog(n) {
		status := fmt.Sprintf("%dxx", line.Status/100)
		if line.Status == 499 {
			status = "499"
		}
		got[key(status, line.Category)]++
	}
	if diff := cmp.Diff(want, got); diff != "" {
		r.t.Errorf("access log (-metrics +log):\n%s", diff)
	}
}
