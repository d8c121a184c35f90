package faults

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"os"
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

// launch runs the program until the test ends, and returns when it is ready.
func launch(t *testing.T, settings []string) *replica {
	t.Helper()
	r := &replica{t: t}
	t.Cleanup(func() { // after the program's end
		if r.Program == nil {
			return
		}
		for _, bad := range []string{hubspottest.Canary, "panic", "DATA RACE"} {
			if strings.Contains(r.Printed.String(), bad) {
				t.Errorf("the program has printed %q:\n%s", bad, &r.Printed)
			}
		}
		if t.Failed() {
			t.Logf("the program at %s printed\n%s", r.Address, &r.Printed)
		}
	})
	r.Program = testkit.Launch(t, os.Getenv(binary), append([]string{"ACCESS_LOG=false"}, settings...)...)
	return r
}

// metric returns the sum of a metric's samples whose labels have the text; 0
// if there is none.
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
