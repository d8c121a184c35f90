package tokens_test

import (
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspot"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/redistest"
	"hubspot-auth-proxy/tokens/secret"
)

// changes records the changes of grants that several sources have reported.
type changes struct {
	mu  sync.Mutex
	all []tokens.GrantChange
}

func (c *changes) add(change tokens.GrantChange) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = append(c.all, change)
}

// take returns the changes since the last call of take.
func (c *changes) take() []tokens.GrantChange {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := c.all
	c.all = nil
	return all
}

// reporting returns five sources on one real Redis that report the changes of grants.
func reporting(t *testing.T, hub *hubspottest.Server, now *clock) (sources []*tokens.Source, client redis.UniversalClient, reported *changes) {
	t.Helper()
	server := redistest.Start(t)
	client, reported = dial(t, server), &changes{}
	for range 5 {
		sources = append(sources, newSource(t, hub, tokens.Options{Redis: dial(t, server), Now: now.now, GrantChanged: reported.add}))
	}
	listening(t, client, 5)
	return sources, client, reported
}

func TestOneOfFiveReplicasReportsEachChangeOfAGrant(t *testing.T) {
	t.Parallel()
	hub, now := newHub(t), newClock()
	sources, _, reported := reporting(t, hub, now)
	seed(t, sources[0], hub, portalID)
	everyone(sources)
	if got := reported.take(); len(got) != 0 {
		t.Errorf("at first %v", got)
	}
	ended := func() tokens.GrantChange {
		return tokens.GrantChange{Portal: portalID, State: tokens.Ended, Code: "BAD_REFRESH_TOKEN", At: now.now().UTC()}
	}
	wants := func(step string, want ...tokens.GrantChange) {
		t.Helper()
		if diff := cmp.Diff(want, reported.take()); diff != "" {
			t.Errorf("%s: -want +got\n%s", step, diff)
		}
	}
	active := func() tokens.GrantChange {
		return tokens.GrantChange{Portal: portalID, State: tokens.Active, At: now.now().UTC()}
	}
	end := func() {
		t.Helper()
		hub.SetToken(hubspottest.TokenBehaviour{Code: "BAD_REFRESH_TOKEN"})
		now.advance(tokenLife)
		everyone(sources)
		wants("HubSpot refuses it", ended())
	}
	end()
	now.advance(time.Minute)
	everyone(sources)
	wants("HubSpot refuses it again")
	hub.SetToken(hubspottest.TokenBehaviour{})
	now.advance(10 * time.Minute)
	everyone(sources)
	wants("HubSpot takes it again", active())

	for step, connect := range map[string]func() error{
		"portal set": func() error {
			return sources[1].Set(t.Context(), tokens.Seed{Portal: portalID, Kind: tokens.OAuth, Secret: secret.New(hub.Connect(portalID))}, "test")
		},
		"the connect page": func() error {
			token := hubspot.Token{Access: secret.New(hub.Issue(portalID, tokenLife)), Refresh: secret.New(hub.Connect(portalID)), ExpiresIn: tokenLife}
			return sources[2].Connect(t.Context(), portalID, token, tokens.ConnectRequest{Unasked: true}, "test")
		},
		"a seed": func() error {
			put(t, sources[3], portalID, tokens.OAuth, hub.Connect(portalID))
			return nil
		},
	} {
		end()
		hub.SetToken(hubspottest.TokenBehaviour{})
		if err := connect(); err != nil {
			t.Errorf("%s: %v", step, err)
		}
		wants(step, active())
		everyone(sources)
		wants(step + ", and a renewal")
	}
	end()
	if err := sources[4].Remove(t.Context(), portalID, "test"); err != nil {
		t.Error(err)
	}
	wants("portal remove")
}

func TestARemovedPortalsGrantIsNotReported(t *testing.T) {
	t.Parallel()
	hub, now := newHub(t), newClock()
	sources, _, reported := reporting(t, hub, now)
	seed(t, sources[0], hub, portalID)
	if err := sources[0].Remove(t.Context(), portalID, "test"); err != nil {
		t.Fatal(err)
	}
	if err := sources[1].Set(t.Context(), tokens.Seed{Portal: portalID, Kind: tokens.OAuth, Secret: secret.New(hub.Connect(portalID))}, "test"); err != nil {
		t.Fatal(err)
	}
	everyone(sources)
	if got := reported.take(); len(got) != 0 {
		t.Errorf("reported %v", got)
	}
}
