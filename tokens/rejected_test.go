package tokens_test

import (
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/redistest"
	"hubspot-auth-proxy/tokens/secret"
	"hubspot-auth-proxy/tokens/testkit"
)

// answered makes HubSpot answer calls with the portal's credential with each of the
// statuses.
func answered(t *testing.T, s *tokens.Source, portal string, statuses ...int) {
	t.Helper()
	for _, status := range statuses {
		get(t, s, portal).Answered(status)
	}
}

// stateOf returns the portal's state as operators see it.
func stateOf(t *testing.T, s *tokens.Source, portal string) tokens.State {
	t.Helper()
	p, err := s.Portal(t.Context(), portal)
	if err != nil {
		t.Fatal(err)
	}
	return p.State
}

func TestAStaticCredentialIsRejectedAfterThree401InARow(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		statuses []int
		want     tokens.State
	}{
		"two":                         {[]int{401, 401}, "active"},
		"three":                       {[]int{401, 401, 401}, "rejected"},
		"with a 2xx in between":       {[]int{401, 401, 200, 401, 401}, "active"},
		"with a 404 and 500 between":  {[]int{401, 404, 401, 500, 401}, "rejected"},
		"and a 403 after":             {[]int{401, 401, 401, 403}, "rejected"},
		"and a 204 after":             {[]int{401, 401, 401, 204}, "active"},
		"and at once three more then": {[]int{401, 401, 401, 200, 401, 401, 401}, "active"},
	} {
		for _, kind := range []tokens.Kind{tokens.AccessToken, tokens.APIKey} {
			t.Run(name+" "+string(kind), func(t *testing.T) {
				onEachRedis(t, func(t *testing.T, connect connector) {
					s := newSource(t, newHub(t), tokens.Options{Redis: connect(t)})
					put(t, s, portalID, kind, hubspottest.Canary)
					answered(t, s, portalID, test.statuses...)
					if got := stateOf(t, s, portalID); got != test.want {
						t.Errorf("it is %s, want %s", got, test.want)
					}
				})
			})
		}
	}
}

func TestReplicasShareTheStateOfARejectedCredential(t *testing.T) {
	t.Parallel()
	hub, now := newHub(t), newClock()
	server := redistest.Start(t)
	client := dial(t, server)
	a, log := watched(t, hub, tokens.Options{Redis: client, Now: now.now})
	b := newSource(t, hub, tokens.Options{Redis: dial(t, server), Now: now.now})
	listening(t, client, 2)
	put(t, a, portalID, tokens.AccessToken, hubspottest.Canary)
	get(t, b, portalID)
	began := now.now()
	for range 5 {
		answered(t, a, portalID, 401)
		now.advance(time.Second)
	}
	testkit.Eventually(t, "the other replica has the state", func() bool { return stateOf(t, b, portalID) == tokens.Rejected })
	for _, s := range []*tokens.Source{a, b} {
		p, err := s.Show(t.Context(), portalID) // as the command portal list does
		if err != nil || p.State != tokens.Rejected || !p.RejectedAt.Equal(began) || p.Healthy() || !strings.Contains(p.Remedy(), "portal set "+portalID) {
			t.Errorf("%+v, %v", p, err)
		}
		get(t, s, portalID) // the rejected credential stays in use
	}
	if state := field(t, client, "state"); state != "active" { // earlier versions read this field
		t.Errorf("the record is %s", state)
	}
	if log.lines("HubSpot rejects a portal's credential") != 1 {
		t.Error("it is not logged once")
	}
	testkit.Eventually(t, "both replicas see that it is accepted", func() bool {
		answered(t, b, portalID, 200) // the first call after b has read the record again
		return stateOf(t, a, portalID) == tokens.Active && stateOf(t, b, portalID) == tokens.Active && field(t, client, "rejected_at") == ""
	})
	testkit.Eventually(t, "it is rejected anew, after the first replica has read the record again", func() bool {
		now.advance(time.Minute)
		answered(t, a, portalID, 401, 401, 401)
		return stateOf(t, a, portalID) == tokens.Rejected
	})
	put(t, a, portalID, tokens.AccessToken, hubspottest.Canary+"-new")
	if got := stateOf(t, a, portalID); got != tokens.Active {
		t.Errorf("a new one is %s", got)
	}
}

// A process stores the state of a credential only when it changes, not for each answer.
func TestAnswersOfHubSpotCauseNoCommandToRedis(t *testing.T) {
	t.Parallel()
	client := dial(t, redistest.Start(t))
	s := newSource(t, newHub(t), tokens.Options{Redis: client})
	put(t, s, portalID, tokens.AccessToken, hubspottest.Canary)
	c := get(t, s, portalID)
	writes := func() string { return client.Info(t.Context(), "commandstats").Val() }
	evals := func() int { return strings.Count(writes(), "cmdstat_eval") + strings.Count(writes(), "cmdstat_hset") }
	counted := counter(client, recordKey)
	before, kinds := counted.Load(), evals()
	for range 1000 {
		c.Answered(200)
		c.Answered(401)
		c.Answered(401)
		c.Answered(200)
	}
	if n := counted.Load() - before; n > 5 || evals() != kinds { // some are caused by the message about the seed
		t.Errorf("%d commands", n)
	}
}

func TestALocalCredentialIsRejectedToo(t *testing.T) {
	t.Parallel()
	local := tokens.Static("default", tokens.AccessToken, secret.New(hubspottest.Canary))
	s := newSource(t, newHub(t), tokens.Options{Redis: redis.UniversalClient(dial(t, redistest.Start(t))), Local: local})
	answered(t, s, "default", 401, 401, 401)
	if got := stateOf(t, s, "default"); got != tokens.Rejected {
		t.Errorf("it is %s", got)
	}
	o := s.Overview(t.Context(), tokens.Query{Most: 10})
	if len(o.Portals) != 1 || o.Portals[0].State != tokens.Rejected {
		t.Errorf("%+v", o.Portals)
	}
	answered(t, s, "default", 200)
	if got := stateOf(t, s, "default"); got != tokens.Active {
		t.Errorf("it is %s", got)
	}
}

func TestALocalCredentialThatReplacesARejectedOneIsHealthy(t *testing.T) {
	t.Parallel()
	local := tokens.Static("default", tokens.AccessToken, secret.New(hubspottest.Canary))
	s := newSource(t, newHub(t), tokens.Options{Redis: redis.UniversalClient(dial(t, redistest.Start(t))), Local: local})
	answered(t, s, "default", 401, 401, 401)
	s.SetLocal(tokens.Static("default", tokens.AccessToken, secret.New(hubspottest.Canary+"-new")))
	if got := stateOf(t, s, "default"); got != tokens.Active {
		t.Errorf("the portal is %s", got)
	}
	o := s.Overview(t.Context(), tokens.Query{Most: 10})
	if len(o.Portals) != 1 || o.Portals[0].State != tokens.Active || o.Counts[tokens.Rejected] != 0 {
		t.Errorf("%+v, %v", o.Portals, o.Counts)
	}
}

// The environment's credential without a portal id is not in Redis, so portal set cannot replace it.
func TestTheRemedyForTheEnvironmentsCredentialIsItsSetting(t *testing.T) {
	remedy := tokens.Portal{ID: "default", State: tokens.Rejected}.Remedy()
	if strings.Contains(remedy, "portal set") || !strings.Contains(remedy, "HUBSPOT_ACCESS_TOKEN") {
		t.Error(remedy)
	}
}
