package proxy_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hubspot-auth-proxy/proxy"
	"hubspot-auth-proxy/tokens"
)

// slowCredentials simulates a slow Redis: each credential takes the time by.
type slowCredentials struct {
	mixedPortals
	by time.Duration
}

func (s slowCredentials) Credential(ctx context.Context, portal string) (*tokens.Credential, error) {
	time.Sleep(s.by)
	return s.mixedPortals.Credential(ctx, portal)
}

// sum returns what a histogram has observed, together.
func (r *rig) sum(name string) time.Duration {
	r.t.Helper()
	families, err := r.metrics.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == "hubspot_auth_proxy_"+name {
			return time.Duration(family.GetMetric()[0].GetHistogram().GetSampleSum() * float64(time.Second))
		}
	}
	r.t.Fatalf("there is no %s", name)
	return 0
}

// HubSpot takes its time for the headers of two tries and for the body, the
// client for its own body, and the proxy for the credential.
func TestTheProxysOwnTimeIsNeitherHubSpotsNorThatOfBodies(t *testing.T) {
	t.Parallel()
	const wait, body, own = 400 * time.Millisecond, 700 * time.Millisecond, 200 * time.Millisecond
	var tries atomic.Int64
	set, _ := upstream(t, func(w http.ResponseWriter, q *http.Request) {
		_, _ = io.Copy(io.Discard, q.Body)
		time.Sleep(wait) // these sleeps are the times of a slow HubSpot
		if tries.Add(1) == 1 {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_ = http.NewResponseController(w).Flush()
		time.Sleep(body)
	})
	r := start(t, setup{proxy: func(o *proxy.Options) {
		set(o)
		o.Credentials = slowCredentials{by: own}
	}})
	from, to := io.Pipe()
	go func() {
		_, err := io.WriteString(to, "a slow ")
		time.Sleep(body) // a slow client
		_, more := io.WriteString(to, "body")
		_ = to.CloseWithError(errors.Join(err, more))
	}()
	r.call("POST", "/", from).want(t, 200, "2")
	r.counted() // when it has ended

	var line struct {
		Received               int64
		Duration, Own, Hubspot float64
	}
	for text := range strings.Lines(r.logs.String()) {
		if strings.Contains(text, `"request"`) {
			if err := json.Unmarshal([]byte(text), &line); err != nil {
				t.Fatal(err)
			}
		}
	}
	seconds := func(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
	for name, test := range map[string]struct{ got, least, most time.Duration }{
		"own_seconds":          {r.sum("own_seconds"), own, own + wait},
		"hubspot_wait_seconds": {r.sum("hubspot_wait_seconds"), 2*wait + body/2, 2*wait + 2*body},
		"own in the log":       {seconds(line.Own), own, own + wait},
		"hubspot in the log":   {seconds(line.Hubspot), 2*wait + body/2, 2*wait + 2*body},
		"duration in the log":  {seconds(line.Duration), own + 2*wait + body, time.Minute},
	} {
		if test.got < test.least || test.got > test.most {
			t.Errorf("%s is %s, want %s to %s", name, test.got, test.least, test.most)
		}
	}
	if line.Received != int64(len("a slow body")) {
		t.Errorf("%d bytes received", line.Received)
	}
}

func TestTheTimeOfARequestThatGoesNowhereIsTheProxysOwn(t *testing.T) {
	r := start(t, setup{proxy: func(o *proxy.Options) { o.Credentials = slowCredentials{by: 200 * time.Millisecond} }})
	r.call("GET", "/portals/403/a", nil).want(t, 403, "0")
	r.counted()
	var line struct{ Own float64 }
	for text := range strings.Lines(r.logs.String()) {
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatal(err)
		}
	}
	if line.Own < .2 {
		t.Errorf("%v seconds", line.Own)
	}
	if n := gathered(t, r.metrics)["own_seconds"]; n != 0 {
		t.Errorf("own_seconds has %v", n) // it is of what HubSpot answered
	}
}
