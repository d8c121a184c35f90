package faults

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/testkit"
)

// replica is one process of the program.
type replica struct {
	*testkit.Program
	t *testing.T
}

// launch starts the program and waits until it is ready. The program ends with the
// test. Its output must have no canary, panic or data race, and be lines of JSON.
func launch(t *testing.T, settings []string) *replica {
	t.Helper()
	return launchBy(t, testkit.Launch, settings)
}

// launchBy is launch, with a function of testkit that starts the program.
func launchBy(t *testing.T, start func(testing.TB, string, ...string) *testkit.Program, settings []string) *replica {
	t.Helper()
	r := &replica{t: t}
	t.Cleanup(func() { // runs after the program has ended
		if r.Program == nil {
			return
		}
		for _, bad := range []string{hubspottest.Canary, "panic", "DATA RACE"} {
			if strings.Contains(r.Printed.String(), bad) {
				t.Errorf("the program has printed %q:\n%s", bad, &r.Printed)
			}
		}
		for line := range strings.Lines(r.Printed.String()) {
			if !json.Valid([]byte(line)) {
				t.Errorf("the program has printed a line that is not JSON: %q", line)
			}
		}
		if t.Failed() {
			t.Logf("the program at %s printed\n%s", r.Address, &r.Printed)
		}
	})
	r.Program = start(t, testkit.Binary(), append([]string{"ACCESS_LOG=false"}, settings...)...)
	return r
}

// metric returns the sum of the metric's samples whose labels contain the text, or 0 if
// there are none.
func (r *replica) metric(name, label string) (sum float64) {
	r.t.Helper()
	response, err := plain.Get("http://" + r.Admin + "/metrics")
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

// seesRedis reports whether, by its metrics, the replica reaches Redis and holds
// nothing that is not stored there.
func (r *replica) seesRedis() bool {
	return r.metric("hubspot_auth_proxy_redis_up", "") == 1 && r.metric("hubspot_auth_proxy_unsaved_portals", "") == 0
}

// plain is an HTTP client that uses a new connection for each request.
var plain = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 30 * time.Second}

// call sends one request on a connection of its own and returns the result.
func (r *replica) call(method, target string) result { return send(plain, r, method, target) }

// send sends one request and returns the result. A failed transfer is a result too.
func send(client *http.Client, r *replica, method, target string) result {
	body := ""
	if method != http.MethodGet && method != http.MethodDelete {
		body = `{"properties":{}}`
	}
	request, err := http.NewRequestWithContext(context.Background(), method, "http://"+r.Address+target, strings.NewReader(body))
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
