package main

import (
	"encoding/json"
	"strings"
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
