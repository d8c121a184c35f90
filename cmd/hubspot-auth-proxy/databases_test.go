package main

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/redistest"
)

// Production and staging use different databases of one Redis server.
func TestAPortalThatIsRemovedInOneDatabaseIsServedFromAnother(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	hub := hubspottest.NewServer()
	t.Cleanup(hub.Close)
	hub.SetAccessToken("62516", hubspottest.Canary+"-live")
	in := func(database, prefix string) []string {
		return []string{"REDIS_URL=" + server.URL() + database, "REDIS_PREFIX=" + prefix, "UPSTREAM_URL=" + hub.URL}
	}
	command := func(environ []string, stdin string, args ...string) {
		t.Helper()
		if err := run(t.Context(), args, environ, strings.NewReader(stdin), io.Discard, io.Discard); err != nil {
			t.Fatalf("%q: %v", args, err)
		}
	}
	production := in("/2", "hubspot:")
	command(production, hubspottest.Canary+"-live", "portal", "set", "62516", "access_token")
	url := "http://" + launch(t, "serve", production...).address() + "/portals/62516/crm/v3/objects/contacts"
	for _, staging := range [][]string{in("/3", "hubspot:"), in("/2", "hubspot:staging:"), in("/2", "hubspot:events:")} {
		command(staging, hubspottest.Canary+"-other", "portal", "set", "62516", "access_token")
		launch(t, "serve", staging...).address()
		for range 10 {
			command(staging, "", "portal", "remove", "62516")
			command(staging, hubspottest.Canary+"-other", "portal", "set", "62516", "access_token")
			if status := statusOf(t, url, ""); status != http.StatusOK {
				t.Fatalf("%v: production answers %d", staging[:2], status)
			}
		}
	}
	// A new process serves the portal that production has stored.
	again := "http://" + launch(t, "serve", production...).address() + "/portals/62516/crm/v3/objects/contacts"
	if status := statusOf(t, again, ""); status != http.StatusOK {
		t.Errorf("a new process answers %d", status)
	}
}
