package tokens_test

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/redistest"
	"hubspot-auth-proxy/tokens/store"
	"hubspot-auth-proxy/tokens/testkit"
)

func TestTheREADMEHasTheNeededRights(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	line := "\nACL SETUSER hubspot reset on >PASSWORD " + strings.Join(store.Database{Prefix: "hubspot:"}.Rules(), " ") + "\n"
	if !strings.Contains(string(page), line) {
		t.Errorf("README.md does not have the line%s", line)
	}
}

func TestEachMissingRightIsNamed(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	missing := func() []string {
		t.Helper()
		found, err := newSource(t, newHub(t), tokens.Options{Redis: dial(t, server)}).MissingRights(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	if found := missing(); len(found) > 0 {
		t.Fatalf("the user of the tests lacks %q", found)
	}
	for _, tt := range []struct{ without, names string }{
		{"-hset", "+hset"}, {"-subscribe", "+subscribe"}, {"-time", "+time"}, {"resetchannels", "&hubspot:*"}, {"resetkeys", "~hubspot:*"},
	} {
		server.Do("acl", "setuser", "hubspot", tt.without)
		if found := missing(); !slices.Equal(found, []string{tt.names}) {
			t.Errorf("without %s: %q", tt.names, found)
		}
		server.Do("acl", "setuser", "hubspot", tt.names)
	}
	server.Do("acl", "setuser", "hubspot", "-eval", "-evalsha")
	if found := missing(); !slices.Equal(found, []string{"+eval", "+evalsha"}) {
		t.Errorf("without scripts: %q", found)
	}
}

// Of a server that cannot report rights, such as the embedded Redis, no right is known to be
// missing.
func TestNoRightIsMissingIfTheServerCannotReportRights(t *testing.T) {
	t.Parallel()
	client, end := store.Embedded()
	defer end()
	found, err := newSource(t, newHub(t), tokens.Options{Redis: client}).MissingRights(t.Context())
	if err != nil || len(found) > 0 {
		t.Errorf("%q, %v", found, err)
	}
}

func TestChangesArePolledForWithoutTheRightToSubscribe(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Without("&hubspot:*"))
	hub := newHub(t)
	s := newSource(t, hub, tokens.Options{Redis: dial(t, server)})
	other := newSource(t, hub, tokens.Options{Redis: dial(t, server)})
	put(t, other, "1", tokens.AccessToken, hubspottest.Canary+"-a")
	get(t, s, "1")
	testkit.Eventually(t, "it polls", s.PollsRedis)
	get(t, s, "1") // the first poll makes the source read the record
	began := time.Now()
	if err := other.Remove(t.Context(), "1", "test"); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the removal takes effect", func() bool {
		_, err := s.Credential(t.Context(), "1")
		return err == tokens.ErrNotConnected
	})
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("it took %v", took)
	}
}
