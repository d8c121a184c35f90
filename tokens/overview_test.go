package tokens_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/secret"
	"hubspot-auth-proxy/tokens/store"
	"hubspot-auth-proxy/tokens/testkit"
)

// overview returns the overview of all portals, and fails the test if the overview has a secret.
func overview(t *testing.T, s *tokens.Source, most int) tokens.Overview {
	t.Helper()
	_ = s.Survey(t.Context()) // fails without Redis
	return found(t, s, tokens.Query{Most: most})
}

// found returns the overview of the portals that the query selects.
func found(t *testing.T, s *tokens.Source, q tokens.Query) tokens.Overview {
	t.Helper()
	o := s.Overview(t.Context(), q)
	if text := fmt.Sprintf("%+v", o); strings.Contains(text, hubspottest.Canary) {
		t.Errorf("the overview has a secret: %s", text)
	}
	return o
}

func idsOf(o tokens.Overview) []string {
	ids := []string{}
	for _, p := range o.Portals {
		ids = append(ids, p.ID)
	}
	return ids
}

// reads counts the commands of a client by name.
type reads struct {
	mu    sync.Mutex
	count map[string]int
}

func (r *reads) DialHook(next redis.DialHook) redis.DialHook { return next }

func (r *reads) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (r *reads) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		r.mu.Lock()
		r.count[cmd.Name()]++
		r.mu.Unlock()
		return next(ctx, cmd)
	}
}

func TestAnOverviewHasPortalsThatNeedAttentionFirst(t *testing.T) {
	onEachRedis(t, func(t *testing.T, connect connector) {
		hub, now, client := newHub(t), newClock(), connect(t)
		s := newSource(t, hub, tokens.Options{Redis: client, Now: now.now})
		put(t, s, "9", tokens.AccessToken, hubspottest.Canary+"-9")
		put(t, s, "10", tokens.APIKey, hubspottest.Canary+"-10")
		for _, id := range []string{"11", "12", "13", "14"} {
			seed(t, s, hub, id)
		}
		renewed := now.now()
		get(t, s, "11")
		set := func(id string, fields ...any) {
			if err := client.HSet(t.Context(), "hubspot:portal:{"+id+"}", fields...).Err(); err != nil {
				t.Fatal(err)
			}
		}
		set("12", "state", "ended", "ended_code", "BAD_HUB", "name", "Twelve")
		set("13", "refresh_token", "sealed:gone:AAAA")
		if err := s.Remove(t.Context(), "14", "test"); err != nil {
			t.Fatal(err)
		}
		client.Set(t.Context(), "hubspot:portal:{15}", hubspottest.Canary, 0)

		o := overview(t, s, 100)
		unusable := func(id string) tokens.Portal { return tokens.Portal{ID: id, State: "unusable"} }
		want := []tokens.Portal{
			{ID: "12", Name: "Twelve", Kind: tokens.OAuth, State: "ended", Problem: "BAD_HUB", NextTry: renewed}, unusable("13"), unusable("15"),
			{ID: "9", Kind: tokens.AccessToken, State: "active"}, {ID: "10", Kind: tokens.APIKey, State: "active"},
			{ID: "11", Kind: tokens.OAuth, State: "active", Renewed: renewed, Expires: renewed.Add(tokenLife), App: hubspottest.ClientID, Scopes: "crm.objects.contacts.read oauth",
				Events: []tokens.Event{{At: renewed, What: "expiry"}}},
		}
		var got []tokens.Portal
		for _, p := range o.Portals {
			if p.State == "unusable" {
				if p.Problem == "" {
					t.Errorf("portal %s: no problem is reported", p.ID)
				}
				p.Problem, p.Kind = "", ""
			} else if p.Set.IsZero() {
				t.Errorf("portal %s: it is not known when the credential was set", p.ID)
			}
			p.Set = time.Time{}
			got = append(got, p)
		}
		if diff := cmp.Diff(want, got); diff != "" || o.Cached || o.App != "" {
			t.Errorf("%+v, -want +got\n%s", o, diff)
		}
		if hub.TokenCallsTotal() != 1 {
			t.Errorf("it calls the token endpoint: %d calls", hub.TokenCallsTotal())
		}
	})
}

func TestAnOverviewReadsAtMostTheRequestedNumberOfRecords(t *testing.T) {
	t.Parallel()
	hub := newHub(t)
	client, end := store.Embedded()
	t.Cleanup(end)
	s := newSource(t, hub, tokens.Options{Redis: client})
	for i := range 500 {
		state := "active"
		if i >= 490 {
			state = "ended"
		}
		client.HSet(t.Context(), fmt.Sprintf("hubspot:portal:{%d}", 1000+i), "schema", "1", "kind", "oauth", "state", state, "generation", "1", "refresh_token", "x", "name", fmt.Sprint("No. ", i))
	}
	if err := s.Survey(t.Context()); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "its lock is released", func() bool { return client.Exists(t.Context(), "hubspot:lock:{70000}").Val() == 0 })
	counted := &reads{count: map[string]int{}}
	client.AddHook(counted)
	o := found(t, s, tokens.Query{Most: 20})
	delete(counted.count, "hello") // sent on new connections
	if diff := cmp.Diff(map[string]int{"hgetall": 20}, counted.count); diff != "" {
		t.Errorf("commands, -want +got\n%s", diff)
	}
	if got := idsOf(o); len(got) != 20 || got[0] != "1490" || got[9] != "1499" || got[10] != "1000" || o.NeedAttention != 10 || o.Found != 500 || !o.Whole ||
		!cmp.Equal(o.Counts, tokens.Counts{"active": 490, "ended": 10}) {
		t.Errorf("portals %v of %d, %d need attention, %v", got, o.Found, o.NeedAttention, o.Counts)
	}
	for _, c := range []struct {
		query tokens.Query
		found int
		ids   []string
	}{
		{tokens.Query{First: 8, Most: 3}, 500, []string{"1498", "1499", "1000"}},
		{tokens.Query{First: 499, Most: 3}, 500, []string{"1489"}},
		{tokens.Query{First: 500, Most: 3}, 500, []string{}},
		{tokens.Query{Text: "no. 49", Most: 3}, 11, []string{"1490", "1491", "1492"}},
		{tokens.Query{Text: "1499", Most: 3}, 1, []string{"1499"}},
		{tokens.Query{Text: "NO. 12", State: tokens.Active, Most: 1, First: 1}, 11, []string{"1120"}},
		{tokens.Query{State: tokens.Attention, Most: 1}, 10, []string{"1490"}},
		{tokens.Query{State: tokens.Removed, Most: 1}, 0, []string{}},
		{tokens.Query{State: "no such state", Most: 1}, 0, []string{}},
	} {
		if o := found(t, s, c.query); o.Found != c.found || !cmp.Equal(idsOf(o), c.ids) || o.NeedAttention != 10 {
			t.Errorf("%+v finds %v of %d", c.query, idsOf(o), o.Found)
		}
	}
}

func TestTheCountsFollowChangesOfPortals(t *testing.T) {
	onEachRedis(t, func(t *testing.T, connect connector) {
		hub, client := newHub(t), connect(t)
		s, other := newSource(t, hub, tokens.Options{Redis: client}), newSource(t, hub, tokens.Options{Redis: connect(t)})
		put(t, other, "1", tokens.AccessToken, "x")
		listening(t, client, 2)
		counts := func(what string, want tokens.Counts) {
			t.Helper()
			testkit.Eventually(t, what, func() bool { return cmp.Equal(found(t, s, tokens.Query{}).Counts, want) })
		}
		s.FollowAll()
		counts("what was there before is counted", tokens.Counts{"active": 1})
		for id := range 300 {
			put(t, other, fmt.Sprint(10+id), tokens.AccessToken, "x")
		}
		counts("what another process stores is counted", tokens.Counts{"active": 301})
		if err := other.Remove(t.Context(), "1", "test"); err != nil {
			t.Fatal(err)
		}
		counts("what another process removes is counted", tokens.Counts{"active": 300, "removed": 1})
		if o := found(t, s, tokens.Query{Text: "1", State: tokens.Removed, Most: 5}); !cmp.Equal(idsOf(o), []string{"1"}) || o.Counts.All() != 300 {
			t.Errorf("removed: %+v", o)
		}
	})
}

func TestASurveyForgetsPortalsWithoutARecord(t *testing.T) {
	t.Parallel()
	client, end := store.Embedded()
	t.Cleanup(end)
	s := newSource(t, newHub(t), tokens.Options{Redis: client})
	record := func(id string) {
		client.HSet(t.Context(), "hubspot:portal:{"+id+"}", "schema", "1", "kind", "api_key", "state", "active", "generation", "1", "api_key", "x")
	}
	for _, id := range []string{"3", "1", "2", "none"} {
		record(id)
	}
	if o := overview(t, s, 9); !cmp.Equal(idsOf(o), []string{"1", "2", "3"}) {
		t.Errorf("%v", idsOf(o))
	}
	client.Del(t.Context(), "hubspot:portal:{2}")
	record("4")
	if o := overview(t, s, 9); !cmp.Equal(idsOf(o), []string{"1", "3", "4"}) || o.Counts.All() != 3 || o.Found != 3 {
		t.Errorf("%v", idsOf(o))
	}
}

func TestAnOverviewHasTheFailureUntilThePortalIsRenewed(t *testing.T) {
	onEachRedis(t, func(t *testing.T, connect connector) {
		hub, now, client := newHub(t), newClock(), connect(t)
		s := newSource(t, hub, tokens.Options{Redis: client, Now: now.now})
		other := newSource(t, hub, tokens.Options{Redis: connect(t), Now: now.now})
		seed(t, s, hub, portalID)
		get(t, s, portalID)
		get(t, other, portalID)
		listening(t, client, 2)
		now.advance(tokenLife)
		if o := overview(t, s, 9); !o.Portals[0].Healthy() || o.NeedAttention != 0 {
			t.Errorf("a portal that nobody has called needs attention: %+v", o)
		}
		hub.SetToken(hubspottest.TokenBehaviour{Status: 502})
		if !answers(t, s, portalID, &tokens.UnavailableError{}) {
			t.Fatal("it is renewed")
		}
		// The portal is also counted if the query does not select it.
		p := overview(t, s, 9).Portals[0]
		if p.Healthy() || !strings.Contains(p.Failure, "HTTP 502") || !p.Retry.After(now.now()) || p.State != "active" {
			t.Errorf("%+v", p)
		}
		now.advance(time.Minute) // the pause has ended, and the portal still has no token
		if p := overview(t, s, 9).Portals[0]; p.Failure == "" {
			t.Errorf("the failure is forgotten: %+v", p)
		}
		hub.SetToken(hubspottest.TokenBehaviour{})
		get(t, other, portalID)
		testkit.Eventually(t, "the portal is healthy again", func() bool {
			o := overview(t, s, 9)
			return o.Portals[0].Healthy() && o.NeedAttention == 0
		})
	})
}

func TestAnOverviewReportsWhatConcernsAllPortals(t *testing.T) {
	t.Parallel()
	hub, now := newHub(t), newClock()
	client, end := store.Embedded()
	t.Cleanup(end)
	s := newSource(t, hub, tokens.Options{Redis: client, Now: now.now})
	for _, id := range []string{"1", "2", "3"} {
		seed(t, s, hub, id)
	}
	get(t, s, "2")
	put(t, s, "4", tokens.AccessToken, "x")
	hub.SetToken(hubspottest.TokenBehaviour{Status: 429})
	if !answers(t, s, "1", &tokens.UnavailableError{}) {
		t.Fatal("it is renewed")
	}
	o := overview(t, s, 9)
	if !strings.Contains(o.App, "429") || !o.AppRetry.After(now.now()) || o.Portals[0].Failure != o.App ||
		!cmp.Equal(idsOf(o), []string{"1", "3", "2", "4"}) || !o.Portals[2].Healthy() {
		t.Errorf("%+v", o)
	}
	now.advance(10 * time.Minute) // no renewal was tried since
	if o = overview(t, s, 9); o.App != "" || !o.Portals[0].Healthy() {
		t.Errorf("reported for too long: %+v", o)
	}

	without := tokens.NewSource(tokens.Options{Redis: client, Prefix: "hubspot:", Now: now.now,
		Local: tokens.Static("default", tokens.AccessToken, secret.New(hubspottest.Canary))})
	t.Cleanup(func() { _ = without.Close(context.Background()) })
	o = overview(t, without, 9)
	if !strings.Contains(o.App, "HUBSPOT_CLIENT_ID") || !cmp.Equal(idsOf(o), []string{"1", "2", "3", "4", "default"}) || o.Portals[0].Healthy() || !o.Portals[4].Healthy() || o.NeedAttention != 3 {
		t.Errorf("without an app: %+v", o)
	}
	for _, id := range []string{"1", "2", "3"} {
		if err := without.Remove(t.Context(), id, "test"); err != nil {
			t.Fatal(err)
		}
	}
	if o = overview(t, without, 9); o.App != "" || !o.Portals[0].Healthy() {
		t.Errorf("without an app, nor a token to renew: %+v", o)
	}
}

func TestAnOverviewWithoutRedisHasThePortalsThatTheProcessHolds(t *testing.T) {
	t.Parallel()
	hub, now := newHub(t), newClock()
	client, end := store.Embedded()
	s := newSource(t, hub, tokens.Options{Redis: client, Now: now.now})
	for _, id := range []string{"1", "2", "3", "4"} {
		seed(t, s, hub, id)
	}
	for _, id := range []string{"1", "2", "4"} {
		get(t, s, id)
	}
	end()
	now.advance(tokenLife)
	get(t, s, "2")
	o := overview(t, s, 9)
	if !o.Cached || !cmp.Equal(idsOf(o), []string{"2", "1", "4"}) || !o.Portals[0].Unsaved || o.Portals[1].Unsaved || o.NeedAttention != 1 || s.RedisAnswers() {
		t.Errorf("%+v", o)
	}
	if got := idsOf(overview(t, s, 2)); !cmp.Equal(got, []string{"2", "1"}) {
		t.Errorf("more than asked for: %v", got)
	}
}

func TestAnOverviewHasTheHeldRecordIfItIsNewer(t *testing.T) {
	onEachRedis(t, func(t *testing.T, connect connector) {
		hub, now, client := newHub(t), newClock(), connect(t)
		s := newSource(t, hub, tokens.Options{Redis: client, Now: now.now})
		seed(t, s, hub, portalID)
		c := get(t, s, portalID)
		// This happens after a failover to a replica that lags behind.
		if err := client.HSet(t.Context(), recordKey, "generation", "1", "expires_at", "1000").Err(); err != nil {
			t.Fatal(err)
		}
		if p := overview(t, s, 1).Portals[0]; !p.Expires.Equal(c.Expiry) {
			t.Errorf("expires %v, want %v", p.Expires, c.Expiry)
		}
	})
}
