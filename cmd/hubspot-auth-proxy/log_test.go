package main

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"hubspot-auth-proxy/tokens/hubspottest"
)

// In a container the log is written to a pipe.
func TestTheLogOfAPipeHasJSONLinesOnly(t *testing.T) {
	t.Parallel()
	m := newMount(t, "{}")
	hub := hubspottest.NewServer()
	defer hub.Close()
	hub.SetToken(hubspottest.TokenBehaviour{Code: "BAD_CLIENT_SECRET"})
	p := launch(t, "serve", append(oauth(hub), "SEED_FILE="+m.path())...)
	if r := p.portal("62515", ""); r.status == 200 {
		t.Fatal(r)
	}
	m.put("portals: none")
	p.until(`the seed file cannot be used`)
	printed := strings.TrimSpace(p.end())
	errors := 0
	for line := range strings.Lines(printed) {
		var entry struct{ Level string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Errorf("%v: %s", err, line)
		}
		if entry.Level == "error" {
			errors++
		}
	}
	if errors < 2 {
		t.Errorf("%d lines of level error:\n%s", errors, printed)
	}
}

func TestEachRequestIsLoggedAndRepeatedWarningsAreCounted(t *testing.T) {
	t.Parallel()
	const requests, workers = 1000, 10
	// No server listens at UPSTREAM_URL.
	p := launch(t, "serve", "UPSTREAM_URL=http://"+freePort(t), "HUBSPOT_ACCESS_TOKEN=pat-na1-x")
	base := "http://" + p.address()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: workers}}
	defer client.CloseIdleConnections()
	var bad atomic.Int64
	var work sync.WaitGroup
	for range workers {
		work.Go(func() {
			for range requests / workers {
				response, err := client.Get(base + "/a")
				if err != nil {
					bad.Add(1)
					continue
				}
				_, _ = io.Copy(io.Discard, response.Body)
				_ = response.Body.Close()
				if response.StatusCode != http.StatusBadGateway {
					bad.Add(1)
				}
			}
		})
	}
	work.Wait()
	p.terminate()
	if status := p.exit(); status != 0 || bad.Load() != 0 {
		t.Errorf("exit status %d, %d requests were not answered 502", status, bad.Load())
	}
	lines, warnings, counted := 0, 0, 0
	for text := range strings.Lines(p.stderr.String()) {
		var line struct {
			Msg      string
			Category string
			Repeated *int
		}
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Errorf("not a line of the log: %q", text)
		}
		switch line.Msg {
		case "request":
			lines++
		case "no answer from HubSpot":
			warnings++
			counted++
			if line.Repeated != nil {
				counted += *line.Repeated - 1
			}
		}
	}
	if lines != requests || counted != requests {
		t.Errorf("of %d requests %d have a line, and %d a warning or a count", requests, lines, counted)
	}
	if warnings > 10 {
		t.Errorf("there are %d warnings", warnings)
	}
	if !strings.HasSuffix(p.stderr.String(), "\"msg\":\"stopped\"}\n") {
		t.Error("something is logged after the end")
	}
}
