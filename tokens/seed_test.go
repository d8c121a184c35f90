package tokens_test

import (
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/redistest"
	"hubspot-auth-proxy/tokens/secret"
	"hubspot-auth-proxy/tokens/store"
	"hubspot-auth-proxy/tokens/testkit"
)

func TestEachKindIsSeededReadAndCached(t *testing.T) {
	onEachRedis(t, func(t *testing.T, connect connector) {
		hub := newHub(t)
		now := newClock()
		client := connect(t)
		s := newSource(t, hub, tokens.Options{Redis: client, Now: now.now})
		for i, tt := range []struct {
			kind   tokens.Kind
			value  string
			expiry time.Time
		}{
			{tokens.OAuth, "", now.now().Add(tokenLife)},
			{tokens.AccessToken, hubspottest.Canary + "-pat", time.Time{}},
			{tokens.APIKey, hubspottest.Canary + "-key", time.Time{}},
		} {
			t.Run(string(tt.kind), func(t *testing.T) {
				id := strconv.Itoa(100 + i)
				if tt.kind == tokens.OAuth {
					seed(t, s, hub, id)
				} else {
					put(t, s, id, tt.kind, tt.value)
				}
				got := get(t, s, id)
				if got.Portal != id || got.Kind != tt.kind || !got.Expiry.Equal(tt.expiry) {
					t.Errorf("got %s %s, expiry %v, want %v", got.Portal, got.Kind, got.Expiry, tt.expiry)
				}
				if tt.value != "" && got.Secret.Reveal() != tt.value {
					t.Error("it has another secret")
				}
				reads := counter(client, "hubspot:portal:{"+id+"}")
				// The events of the seed and of the renewal may come late, and each causes a read.
				testkit.Eventually(t, "a hundred calls read nothing from Redis", func() bool {
					before := reads.Load()
					for range 100 {
						if again := get(t, s, id); again != got {
							t.Fatal("the cached credential is another one")
						}
					}
					return reads.Load() == before
				})
			})
		}
		if hub.TokenCallsTotal() != 1 {
			t.Errorf("%d token calls", hub.TokenCallsTotal())
		}
	})
}

func TestASeedIsAppliedOnce(t *testing.T) {
	onEachRedis(t, func(t *testing.T, connect connector) {
		hub := newHub(t)
		client := connect(t)
		s := newSource(t, hub, tokens.Options{Redis: client})
		listening(t, client, 1)
		var got []bool
		for _, value := range []string{"a", "a", "b", "a", "b", "c", "REMOVE", "a", "c", "d"} {
			if value == "REMOVE" {
				if err := s.Remove(t.Context(), portalID, "test"); err != nil {
					t.Fatal(err)
				}
				continue
			}
			stored, err := s.Seed(t.Context(), tokens.Seed{Portal: portalID, Kind: tokens.APIKey, Secret: secret.New(value)})
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, stored)
		}
		if diff := cmp.Diff([]bool{true, false, true, false, false, true, false, false, true}, got); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
		testkit.Eventually(t, "the last seed is in force", func() bool {
			c, err := s.Credential(t.Context(), portalID)
			return err == nil && c.Secret.Reveal() == "d"
		})
	})
}

func TestASeedThatCannotBeUsedIsRefused(t *testing.T) {
	t.Parallel()
	client, end := store.Embedded()
	t.Cleanup(end)
	s := newSource(t, newHub(t), tokens.Options{Redis: client})
	value := secret.New(hubspottest.Canary)
	for name, tt := range map[string]tokens.Seed{
		"no portal":    {Kind: tokens.APIKey, Secret: value},
		"zero":         {Portal: "0", Kind: tokens.APIKey, Secret: value},
		"a slot":       {Portal: "1}{2", Kind: tokens.APIKey, Secret: value},
		"too long":     {Portal: "12345678901234567890", Kind: tokens.APIKey, Secret: value},
		"no kind":      {Portal: "1", Secret: value},
		"unknown kind": {Portal: "1", Kind: "password", Secret: value},
		"no secret":    {Portal: "1", Kind: tokens.APIKey},
		"no refresh":   {Portal: "1", Kind: tokens.OAuth},
	} {
		t.Run(name, func(t *testing.T) {
			stored, err := s.Seed(t.Context(), tt)
			if stored || err == nil || !isError(t, err, err) {
				t.Errorf("Seed = %t, %v", stored, err)
			}
		})
	}
	if err := s.Remove(t.Context(), "x", "test"); err == nil {
		t.Error("Remove takes any portal")
	}
	if keys := redistest.Admin(t, client).Keys(t.Context(), "hubspot:portal*").Val(); len(keys) > 0 {
		t.Errorf("stored: %v", keys)
	}
}

func TestAnUnknownPortalIsReadFromRedisOnceIn5Seconds(t *testing.T) {
	onEachRedis(t, func(t *testing.T, connect connector) {
		hub, now, client := newHub(t), newClock(), connect(t)
		s := newSource(t, hub, tokens.Options{Redis: client, Now: now.now})
		listening(t, client, 1)
		commands := counter(client, recordKey)
		ask := func(n int) {
			t.Helper()
			for range n {
				if !answers(t, s, portalID, tokens.ErrNotConnected) {
					t.Fatal("not ErrNotConnected")
				}
			}
		}
		ask(1)
		first := commands.Load()
		now.advance(4900 * time.Millisecond)
		ask(1000)
		// All records are read once more when the subscription to messages exists.
		if n := commands.Load() - first; n > 1 {
			t.Errorf("%d commands for a portal that is known to be unknown", n)
		}
		now.advance(200 * time.Millisecond)
		ask(1)
		if commands.Load() == first {
			t.Error("it was not asked for again after 5 s")
		}
		// A message ends the time for which the portal counts as unknown.
		put(t, newSource(t, hub, tokens.Options{Redis: connect(t), Now: now.now}), portalID, tokens.APIKey, "k")
		testkit.Eventually(t, "the portal is known", func() bool {
			_, err := s.Credential(t.Context(), portalID)
			return err == nil
		})
	})
}

func TestARedisErrorIsNeverNotConnected(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Persist()) // otherwise, a new epoch would count as young for 10 s
	server.Kill()
	client := dial(t, server)
	s := newSource(t, newHub(t), tokens.Options{Redis: client})
	for range 3 {
		if !answers(t, s, portalID, &tokens.UnavailableError{}) {
			t.Error("not an UnavailableError")
		}
	}
	if _, err := s.Seed(t.Context(), tokens.Seed{Portal: portalID, Kind: tokens.APIKey, Secret: secret.New("k")}); err == nil {
		t.Error("a seed that was not stored has no error")
	}
	if err := s.Remove(t.Context(), portalID, "test"); err == nil {
		t.Error("a removal that was not stored has no error")
	}
	server.Restart()
	testkit.Eventually(t, "Redis says that there is none", func() bool { return answers(t, s, portalID, tokens.ErrNotConnected) })
}

// Another process may hold the portal's record, and write it back.
func TestAnUnknownPortalIsNotRefusedSoonAfterRedisWasEmptied(t *testing.T) {
	t.Parallel()
	s := newSource(t, newHub(t), tokens.Options{Redis: dial(t, redistest.Start(t, redistest.Young()))})
	_, err := s.Credential(t.Context(), portalID)
	unavailable, is := errors.AsType[*tokens.UnavailableError](err)
	emptied, says := errors.AsType[*tokens.EmptiedError](err)
	if !is || !says {
		t.Fatalf("%v", err)
	}
	if emptied.Ago < 0 || unavailable.RetryAfter <= 0 || emptied.Ago+unavailable.RetryAfter != 10*time.Second {
		t.Errorf("%v, try again in %v", err, unavailable.RetryAfter)
	}
}

func TestALocalCredentialNeedsNoRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	server.Kill()
	local := tokens.Static("default", tokens.AccessToken, secret.New("x"))
	s := newSource(t, newHub(t), tokens.Options{Redis: dial(t, server), Local: local})
	if got := get(t, s, "default"); got != local {
		t.Error("it is another one")
	}
	if _, err := s.Renew(t.Context(), local, true); !isError(t, err, tokens.ErrNoOther) {
		t.Errorf("Renew: %v", err)
	}
}
