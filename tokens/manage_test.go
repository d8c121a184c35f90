package tokens_test

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspot"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/redistest"
	"hubspot-auth-proxy/tokens/secret"
	"hubspot-auth-proxy/tokens/testkit"
)

// generation returns the generation of the portal's record.
func generation(t *testing.T, client redis.UniversalClient) int64 {
	t.Helper()
	n, err := strconv.ParseInt(field(t, client, "generation"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestAChangeOfAPortalTakesEffectInAllProcessesAtOnce(t *testing.T) {
	onEachRedis(t, func(t *testing.T, connect connector) {
		hub, now, client := newHub(t), newClock(), connect(t)
		here, log := watched(t, hub, tokens.Options{Redis: client, Now: now.now})
		there := newSource(t, hub, tokens.Options{Redis: connect(t), Now: now.now})
		listening(t, client, 2)
		set := func(kind tokens.Kind, value string) func() error {
			return func() error {
				return here.Set(t.Context(), tokens.Seed{Portal: portalID, Kind: kind, Secret: secret.New(value)}, "ann")
			}
		}
		granted := hubspot.Token{Access: secret.New(hub.Issue(portalID, tokenLife)), Refresh: secret.New(hub.Connect(portalID)), ExpiresIn: tokenLife}
		var last int64
		for i, step := range []struct {
			do   func() error
			want string // the secret; empty means none
		}{
			{set(tokens.APIKey, hubspottest.Canary+"-1"), hubspottest.Canary + "-1"},
			{set(tokens.APIKey, hubspottest.Canary+"-2"), hubspottest.Canary + "-2"},
			{set(tokens.APIKey, hubspottest.Canary+"-2"), hubspottest.Canary + "-2"},
			{func() error { return here.Remove(t.Context(), portalID, "bob") }, ""},
			{func() error {
				return here.Connect(t.Context(), portalID, granted, tokens.ConnectRequest{Issued: time.Now().Add(time.Minute)}, "cid")
			}, granted.Access.Reveal()},
			{set(tokens.AccessToken, hubspottest.Canary+"-3"), hubspottest.Canary + "-3"},
			{func() error { return here.Remove(t.Context(), portalID, "bob") }, ""},
			{func() error { return here.Remove(t.Context(), portalID, "bob") }, ""},
			{set(tokens.APIKey, hubspottest.Canary+"-1"), hubspottest.Canary + "-1"},
		} {
			if err := step.do(); err != nil {
				t.Fatal(err)
			}
			if g := generation(t, client); g <= last {
				t.Errorf("step %d: generation %d after %d", i, g, last)
			} else {
				last = g
			}
			has := func(s *tokens.Source) bool {
				c, err := s.Credential(t.Context(), portalID)
				if step.want == "" {
					return errors.Is(err, tokens.ErrNotConnected)
				}
				return err == nil && c.Secret.Reveal() == step.want
			}
			if !has(here) {
				t.Errorf("step %d: it is not so here", i)
			}
			testkit.Eventually(t, fmt.Sprintf("step %d is heard of", i), func() bool { return has(there) })
		}
		if hub.TokenCallsTotal() != 0 {
			t.Errorf("%d token calls", hub.TokenCallsTotal())
		}
		for actor, want := range map[string]int{"ann": 5, "bob": 3, "cid": 1} {
			if n := strings.Count(log.String(), `"actor":"`+actor+`"`); n != want {
				t.Errorf("%d lines of %s, want %d", n, actor, want)
			}
		}
	})
}

func TestAConnectedPortalIsRenewedWithItsGrant(t *testing.T) {
	onEachRedis(t, func(t *testing.T, connect connector) {
		hub, now, client := newHub(t), newClock(), connect(t)
		s := newSource(t, hub, tokens.Options{Redis: client, Now: now.now})
		token := hubspot.Token{Access: secret.New(hub.Issue(portalID, tokenLife)), Refresh: secret.New(hub.Connect(portalID)), ExpiresIn: tokenLife}
		if err := s.Connect(t.Context(), portalID, token, tokens.ConnectRequest{Issued: time.Now().Add(time.Minute)}, "test"); err != nil {
			t.Fatal(err)
		}
		if c := get(t, s, portalID); !c.Expiry.Equal(now.now().Add(tokenLife)) || c.Kind != tokens.OAuth {
			t.Errorf("%s, expires %v", c.Kind, c.Expiry)
		}
		now.advance(tokenLife)
		if get(t, s, portalID).Secret.Equal(token.Access) {
			t.Error("it is not renewed")
		}
		wantCalls(t, hub, 1)
		for name, bad := range map[string]hubspot.Token{"nothing": {}, "no refresh token": {Access: token.Access, ExpiresIn: tokenLife}} {
			if err := s.Connect(t.Context(), portalID, bad, tokens.ConnectRequest{Issued: time.Now().Add(time.Minute)}, "test"); err == nil || !isError(t, err, err) {
				t.Errorf("%s: %v", name, err)
			}
		}
		for _, portal := range []string{"", "0", "x", "1}{2"} {
			if err := s.Connect(t.Context(), portal, token, tokens.ConnectRequest{Issued: time.Now().Add(time.Minute)}, "test"); err == nil || !isError(t, err, err) {
				t.Errorf("portal %q: %v", portal, err)
			}
		}
	})
}

func TestShowReturnsAllExceptTheSecrets(t *testing.T) {
	onEachRedis(t, func(t *testing.T, connect connector) {
		hub, now, client := newHub(t), newClock(), connect(t)
		s := newSource(t, hub, tokens.Options{Redis: client, Now: now.now})
		want := tokens.Portal{ID: portalID, Name: "Acme", Kind: tokens.OAuth, State: "active"}
		show := func() {
			t.Helper()
			got, err := s.Show(t.Context(), portalID)
			if err != nil {
				t.Fatal(err)
			}
			if got.State != tokens.Removed && got.Set.IsZero() {
				t.Error("it is not known when the credential was set")
			}
			got.Set = time.Time{}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if strings.Contains(fmt.Sprintf("%#v", got), hubspottest.Canary) {
				t.Errorf("it has a secret: %#v", got)
			}
		}
		if _, err := s.Show(t.Context(), portalID); !errors.Is(err, tokens.ErrNotConnected) {
			t.Errorf("of none: %v", err)
		}
		grant := tokens.Seed{Portal: portalID, Name: "Acme", Kind: tokens.OAuth, Secret: secret.New(hub.Connect(portalID))}
		if err := s.Set(t.Context(), grant, "test"); err != nil {
			t.Fatal(err)
		}
		show()
		get(t, s, portalID)
		want.Expires, want.Renewed, want.App, want.Scopes = now.now().Add(tokenLife), now.now(), hubspottest.ClientID, "crm.objects.contacts.read oauth"
		want.Events = []tokens.Event{{At: now.now(), What: "expiry"}}
		show()
		hub.Disconnect(portalID)
		now.advance(tokenLife)
		if !answers(t, s, portalID, &tokens.EndedError{}) {
			t.Error("the grant has not ended")
		}
		want.State, want.Problem, want.EndedAt, want.NextTry = "ended", "BAD_REFRESH_TOKEN", now.now(), now.now().Add(time.Minute)
		want.Events = append(want.Events, tokens.Event{At: now.now(), What: "ended:BAD_REFRESH_TOKEN"})
		show()
		if err := s.Remove(t.Context(), portalID, "test"); err != nil {
			t.Fatal(err)
		}
		want = tokens.Portal{ID: portalID, State: "removed"}
		show()
		client.HSet(t.Context(), recordKey, "schema", "9")
		got, err := s.Show(t.Context(), portalID)
		if err != nil || got.State != "unusable" || !strings.Contains(got.Problem, `"9"`) {
			t.Errorf("damaged: %+v, %v", got, err)
		}
	})
}

func TestShowIsAnErrorWithoutRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := newSource(t, newHub(t), tokens.Options{Redis: dial(t, server)})
	put(t, s, portalID, tokens.APIKey, "k")
	server.Kill()
	if _, err := s.Show(t.Context(), portalID); !tokens.IsRedisError(err) {
		t.Errorf("Show: %v", err)
	}
	if _, err := s.Portals(t.Context()); !tokens.IsRedisError(err) {
		t.Errorf("Portals: %v", err)
	}
	if first, err := s.Burn(t.Context(), "n", time.Now().Add(time.Minute), time.Minute); first || !tokens.IsRedisError(err) {
		t.Errorf("Burn = %t, %v", first, err)
	}
	if _, err := s.Reseal(t.Context(), portalID, "test"); err == nil || errors.Is(err, tokens.ErrNotConnected) {
		t.Errorf("Reseal: %v", err)
	}
	if s.RedisAnswers() {
		t.Error("RedisAnswers")
	}
}

func TestPortalsReturnsAllPortalsOfThePrefixInNumericalOrder(t *testing.T) {
	t.Parallel()
	for _, prefix := range []string{"hubspot:", "", "a*b:", "a?[x]^-:", `a\*:`, "[a-z]", "{x}:"} {
		t.Run(prefix, func(t *testing.T) {
			onEachRedis(t, func(t *testing.T, connect connector) {
				client := redistest.Admin(t, connect(t)) // the program's user may use one prefix only
				ctx := t.Context()
				var want []string
				store := func(key string) { // not a pipeline, because a connection to the embedded Redis has no buffer
					if err := client.HSet(ctx, key, "state", "active").Err(); err != nil {
						t.Fatal(err)
					}
				}
				n := 50
				if prefix == "hubspot:" {
					n = 2500 // more than one call of SCAN returns
				}
				for i := range n {
					id := strconv.Itoa(7*i + 1)
					want = append(want, id)
					store(prefix + "portal:{" + id + "}")
				}
				// Keys that an unescaped pattern would match, and other keys of the program.
				for _, key := range []string{
					"aXXb:portal:{1000001}", "axx^-:portal:{1000002}", `a\XX:portal:{1000003}`, "qportal:{1000004}",
					"x" + prefix + "portal:{1000005}", prefix + "lock:{1000006}", prefix + "portal:1000007", prefix + "epoch:portal:{1000008}",
				} {
					store(key)
				}
				s := prefixed(t, client, prefix)
				got, err := s.Portals(ctx)
				if err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(want, got) {
					t.Errorf("%d portals, want %d: …%v", len(got), len(want), got[max(0, len(got)-5):])
				}
			})
		})
	}
}

// prefixed returns a source with the prefix, which may be empty.
func prefixed(t *testing.T, client redis.UniversalClient, prefix string) *tokens.Source {
	t.Helper()
	s := tokens.NewSource(tokens.Options{Redis: client, Prefix: prefix})
	t.Cleanup(func() { _ = s.Close(t.Context()) })
	return s
}

func TestANonceIsUsedOnce(t *testing.T) {
	onEachRedis(t, func(t *testing.T, connect connector) {
		hub, client := newHub(t), connect(t)
		a := newSource(t, hub, tokens.Options{Redis: client})
		b := newSource(t, hub, tokens.Options{Redis: connect(t)})
		firsts := make(chan bool, 40)
		together(cap(firsts), func() (*tokens.Credential, error) {
			s := a
			if len(firsts)%2 == 1 {
				s = b
			}
			first, err := s.Burn(t.Context(), "n", time.Now().Add(time.Minute), time.Minute)
			if err != nil {
				t.Error(err)
			}
			firsts <- first
			return nil, nil
		})
		close(firsts)
		n := 0
		for first := range firsts {
			if first {
				n++
			}
		}
		if n != 1 {
			t.Errorf("it served %d times", n)
		}
		if first, err := b.Burn(t.Context(), "other", time.Now().Add(time.Minute), 300*time.Millisecond); !first || err != nil {
			t.Errorf("another one: %t, %v", first, err)
		}
		if ttl := redistest.Admin(t, client).TTL(t.Context(), "hubspot:nonce:n").Val(); ttl < 50*time.Second || ttl > time.Minute {
			t.Errorf("it is kept for %v", ttl)
		}
		testkit.Eventually(t, "it is forgotten", func() bool { return client.Exists(t.Context(), "hubspot:nonce:other").Val() == 0 })
	})
}

func TestConnectingAPortalAgainKeepsItsName(t *testing.T) {
	onEachRedis(t, func(t *testing.T, connect connector) {
		hub := newHub(t)
		s := newSource(t, hub, tokens.Options{Redis: connect(t)})
		named := tokens.Seed{Portal: portalID, Name: "Acme", Kind: tokens.AccessToken, Secret: secret.New("pat")}
		if err := s.Set(t.Context(), named, "test"); err != nil {
			t.Fatal(err)
		}
		token := hubspot.Token{Access: secret.New("a"), Refresh: secret.New("r"), ExpiresIn: time.Hour}
		if err := s.Connect(t.Context(), portalID, token, tokens.ConnectRequest{Issued: time.Now().Add(time.Minute)}, "test"); err != nil {
			t.Fatal(err)
		}
		if shown, err := s.Show(t.Context(), portalID); err != nil || shown.Name != "Acme" || shown.Kind != tokens.OAuth {
			t.Errorf("%+v, %v", shown, err)
		}
	})
}
