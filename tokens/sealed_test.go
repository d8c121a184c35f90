package tokens_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/redistest"
	"hubspot-auth-proxy/tokens/seal"
	"hubspot-auth-proxy/tokens/secret"
	"hubspot-auth-proxy/tokens/store"
	"hubspot-auth-proxy/tokens/testkit"
)

// newKey returns a new key of the ring.
func newKey(t *testing.T, id string) secret.Text {
	t.Helper()
	key, err := seal.Generate(id)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// ring returns a ring of the keys. The first one seals.
func ring(t *testing.T, keys ...secret.Text) seal.Ring {
	t.Helper()
	var all []string
	for _, key := range keys {
		all = append(all, key.Reveal())
	}
	r, err := seal.Parse(secret.New(strings.Join(all, ",")))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// allOf returns all keys and values in Redis as text.
func allOf(t *testing.T, client redis.UniversalClient) string {
	t.Helper()
	var text strings.Builder
	client = redistest.Admin(t, client)
	for _, key := range client.Keys(t.Context(), "*").Val() {
		switch kind := client.Type(t.Context(), key).Val(); kind {
		case "hash":
			fmt.Fprintln(&text, key, client.HGetAll(t.Context(), key).Val())
		case "string":
			fmt.Fprintln(&text, key, client.Get(t.Context(), key).Val())
		case "none": // a lock that was just released
		default:
			t.Fatalf("%s is a %s", key, kind)
		}
	}
	return text.String()
}

// sealedWith reports whether all secrets of the record are sealed with the key.
func sealedWith(record map[string]string, id string) bool {
	found := false
	for _, name := range []string{"access_token", "api_key", "refresh_token"} {
		if record[name] == "" {
			continue
		}
		found = true
		if !strings.HasPrefix(record[name], "sealed:"+id+":") {
			return false
		}
	}
	return found
}

func TestRedisHasNoUnsealedSecretIfThereAreKeys(t *testing.T) {
	onEachRedis(t, func(t *testing.T, connect connector) {
		hub, now, client := newHub(t), newClock(), connect(t)
		hub.SetToken(hubspottest.TokenBehaviour{Rotate: true})
		keys := ring(t, newKey(t, "k"))
		s := newSource(t, hub, tokens.Options{Redis: client, Now: now.now, Keys: keys})
		put(t, s, "2", tokens.AccessToken, hubspottest.Canary+"-pat")
		put(t, s, "3", tokens.APIKey, hubspottest.Canary+"-key")
		seed(t, s, hub, portalID)
		for range 3 {
			get(t, s, portalID)
			now.advance(tokenLife)
		}
		get(t, s, portalID)
		text := allOf(t, client)
		if strings.Contains(text, hubspottest.Canary) || strings.Count(text, "sealed:k:") != 4 {
			t.Errorf("Redis has, with %d sealed:\n%s", strings.Count(text, "sealed:k:"), text)
		}
		// Another process can read all of it.
		other := newSource(t, hub, tokens.Options{Redis: connect(t), Now: now.now, Keys: keys})
		for _, id := range []string{"2", "3", portalID} {
			if !get(t, other, id).Secret.Equal(get(t, s, id).Secret) {
				t.Errorf("portal %s has another secret", id)
			}
		}
	})
}

func TestAPlainRecordIsReadAndSealedWhenItIsNextWritten(t *testing.T) {
	onEachRedis(t, func(t *testing.T, connect connector) {
		hub, now, client := newHub(t), newClock(), connect(t)
		seed(t, newSource(t, hub, tokens.Options{Redis: client, Now: now.now}), hub, portalID)
		if !strings.Contains(allOf(t, client), hubspottest.Canary) {
			t.Fatal("without keys the record is not plain: this test shows nothing")
		}
		s := newSource(t, hub, tokens.Options{Redis: connect(t), Now: now.now, Keys: ring(t, newKey(t, "k"), secret.New("plain"))})
		get(t, s, portalID)
		if text := allOf(t, client); strings.Contains(text, hubspottest.Canary) {
			t.Errorf("after a renewal Redis has:\n%s", text)
		}
	})
}

func TestSourcesWithDifferentFirstKeysOpenEachOthersRecords(t *testing.T) {
	onEachRedis(t, func(t *testing.T, connect connector) {
		hub, now, client := newHub(t), newClock(), connect(t)
		hub.SetToken(hubspottest.TokenBehaviour{Rotate: true})
		old, young := newKey(t, "old"), newKey(t, "young")
		a := newSource(t, hub, tokens.Options{Redis: client, Now: now.now, Keys: ring(t, old, young)})
		b := newSource(t, hub, tokens.Options{Redis: connect(t), Now: now.now, Keys: ring(t, young, old)})
		seed(t, a, hub, portalID)
		for i := range 4 {
			from, to, id := a, b, "old"
			if i%2 == 1 {
				from, to, id = b, a, "young"
			}
			renewed := get(t, from, portalID)
			if record := client.HGetAll(t.Context(), recordKey).Val(); !sealedWith(record, id) {
				t.Errorf("not sealed with %s: %v", id, record)
			}
			testkit.Eventually(t, "the other has it", func() bool {
				c, err := to.Credential(t.Context(), portalID)
				return err == nil && c.Secret.Equal(renewed.Secret)
			})
			now.advance(tokenLife)
		}
		wantCalls(t, hub, 4)
	})
}

func TestASealedRecordThatCannotBeOpenedIsNeitherServedNorOverwritten(t *testing.T) {
	t.Parallel()
	key := newKey(t, "k")
	for name, tt := range map[string]struct {
		reader func(t *testing.T) seal.Ring
		spoil  func(t *testing.T, client redis.UniversalClient)
		says   []string
	}{
		"another portal's": {nil, func(t *testing.T, client redis.UniversalClient) {
			other := client.HGetAll(t.Context(), "hubspot:portal:{7}").Val()
			client.HSet(t.Context(), recordKey, "access_token", other["access_token"], "refresh_token", other["refresh_token"])
		}, []string{`key \"k\"`, "another portal"}},
		"fields exchanged": {nil, func(t *testing.T, client redis.UniversalClient) {
			own := client.HGetAll(t.Context(), recordKey).Val()
			client.HSet(t.Context(), recordKey, "access_token", own["refresh_token"], "refresh_token", own["access_token"])
		}, []string{`key \"k\"`}},
		"damaged": {nil, func(t *testing.T, client redis.UniversalClient) {
			client.HSet(t.Context(), recordKey, "refresh_token", "sealed:k:AAAA")
		}, []string{`key \"k\"`, "damaged"}},
		"no base64": {nil, func(t *testing.T, client redis.UniversalClient) {
			client.HSet(t.Context(), recordKey, "refresh_token", "sealed:k:"+hubspottest.Canary+"!")
		}, []string{`key \"k\"`, "damaged"}},
		"no key of that id": {func(t *testing.T) seal.Ring { return ring(t, newKey(t, "other")) }, nil, []string{`key \"k\"`, "ENCRYPTION_KEYS"}},
		"another key":       {func(t *testing.T) seal.Ring { return ring(t, newKey(t, "k")) }, nil, []string{`key \"k\"`}},
		"no keys at all":    {func(*testing.T) seal.Ring { return seal.Ring{} }, nil, []string{`key \"k\"`, "ENCRYPTION_KEYS"}},
	} {
		t.Run(name, func(t *testing.T) {
			onEachRedis(t, func(t *testing.T, connect connector) {
				hub, now, client := newHub(t), newClock(), connect(t)
				knows := newSource(t, hub, tokens.Options{Redis: client, Now: now.now, Keys: ring(t, key)})
				seed(t, knows, hub, "7")
				seed(t, knows, hub, portalID)
				get(t, knows, "7")
				get(t, knows, portalID)
				calls := hub.TokenCallsTotal()
				keys := ring(t, key)
				if tt.reader != nil {
					keys = tt.reader(t)
				}
				if tt.spoil != nil {
					tt.spoil(t, client)
				}
				before := client.HGetAll(t.Context(), recordKey).Val()
				s, log := watched(t, hub, tokens.Options{Redis: connect(t), Now: now.now, Keys: keys})
				for range 3 {
					if !answers(t, s, portalID, &tokens.UnavailableError{}) {
						t.Error("no UnavailableError")
					}
					now.advance(10 * time.Second)
				}
				for _, says := range append(tt.says, `"portal":"`+portalID+`"`) {
					if !strings.Contains(log.String(), says) {
						t.Errorf("the log does not tell %s:\n%s", says, log)
					}
				}
				if stored, err := s.Seed(t.Context(), tokens.Seed{Portal: portalID, Kind: tokens.APIKey, Secret: secret.New("new")}); stored || err == nil {
					t.Errorf("Seed = %t, %v", stored, err)
				}
				resealed, err := s.Reseal(t.Context(), portalID, "test")
				if _, is := errors.AsType[*seal.OpenError](err); resealed || !is {
					t.Errorf("Reseal = %t, %v", resealed, err)
				}
				shown, err := s.Show(t.Context(), portalID)
				if err != nil || shown.State != "unusable" || shown.Kind == "" || !strings.Contains(shown.Problem, `"k"`) || strings.Contains(shown.Problem, hubspottest.Canary) {
					t.Errorf("Show = %+v, %v", shown, err)
				}
				if tt.spoil != nil { // a source that held the record would renew it
					now.advance(tokenLife)
					if !answers(t, knows, portalID, &tokens.UnavailableError{}) {
						t.Error("who would renew it has no UnavailableError")
					}
				}
				if diff := cmp.Diff(before, client.HGetAll(t.Context(), recordKey).Val()); diff != "" {
					t.Errorf("the record was changed, -before +after:\n%s", diff)
				}
				if n := hub.TokenCallsTotal(); n != calls {
					t.Errorf("%d token calls", n-calls)
				}
				if keys.IsZero() { // an unsealed record does not replace a sealed one
					if err := s.Set(t.Context(), tokens.Seed{Portal: portalID, Kind: tokens.APIKey, Secret: secret.New("new")}, "test"); err == nil || !strings.Contains(err.Error(), "ENCRYPTION_KEYS") {
						t.Errorf("Set without keys: %v", err)
					}
					if diff := cmp.Diff(before, client.HGetAll(t.Context(), recordKey).Val()); diff != "" {
						t.Errorf("the record was changed, -before +after:\n%s", diff)
					}
					return
				}
				// The operator's way out.
				if err := s.Set(t.Context(), tokens.Seed{Portal: portalID, Kind: tokens.APIKey, Secret: secret.New("new")}, "test"); err != nil {
					t.Fatal(err)
				}
				now.advance(10 * time.Second) // unusable records are read again
				testkit.Eventually(t, "what was set is in force", func() bool {
					c, err := s.Credential(t.Context(), portalID)
					return err == nil && c.Secret.Reveal() == "new"
				})
			})
		})
	}
}

func TestResealSealsAllSecretsSoThatTheOldKeyCanBeRemoved(t *testing.T) {
	onEachRedis(t, func(t *testing.T, connect connector) {
		hub, client := newHub(t), connect(t)
		old, young := newKey(t, "old"), newKey(t, "young")
		before := newSource(t, hub, tokens.Options{Redis: client, Keys: ring(t, old)})
		seed(t, before, hub, "1")
		want := map[string]string{"1": get(t, before, "1").Secret.Reveal(), "2": "pat", "3": "key", "4": "plain"}
		put(t, before, "2", tokens.AccessToken, want["2"])
		put(t, before, "3", tokens.APIKey, want["3"])
		put(t, before, "5", tokens.APIKey, "removed")
		if err := before.Remove(t.Context(), "5", "test"); err != nil {
			t.Fatal(err)
		}
		plain := newSource(t, hub, tokens.Options{Redis: connect(t)})
		put(t, plain, "4", tokens.APIKey, want["4"])
		generation := client.HGet(t.Context(), "hubspot:portal:{1}", "generation").Val()

		both, log := watched(t, hub, tokens.Options{Redis: connect(t), Keys: ring(t, young, old, secret.New("plain"))})
		for id, first := range map[string]bool{"1": true, "2": true, "3": true, "4": true, "5": false} {
			for i, want := range []bool{first, false} {
				if resealed, err := both.Reseal(t.Context(), id, "ann"); err != nil || resealed != want {
					t.Errorf("portal %s, time %d: %t, %v", id, i, resealed, err)
				}
			}
		}
		if _, err := both.Reseal(t.Context(), "6", "ann"); !errors.Is(err, tokens.ErrNotConnected) {
			t.Errorf("of no record: %v", err)
		}
		if n := strings.Count(log.String(), `"actor":"ann"`); n != 4 || !strings.Contains(log.String(), `"key":"young"`) {
			t.Errorf("%d lines with the actor:\n%s", n, log)
		}
		if got := client.HGet(t.Context(), "hubspot:portal:{1}", "generation").Val(); got != generation {
			t.Errorf("the generation was %s, and is %s", generation, got)
		}
		after := newSource(t, hub, tokens.Options{Redis: connect(t), Keys: ring(t, young)})
		for id, value := range want {
			if get(t, after, id).Secret.Reveal() != value {
				t.Errorf("portal %s has another secret", id)
			}
			if record := client.HGetAll(t.Context(), "hubspot:portal:{"+id+"}").Val(); !sealedWith(record, "young") {
				t.Errorf("portal %s: %v", id, record)
			}
		}
		if !answers(t, after, "5", tokens.ErrNotConnected) {
			t.Error("the removed portal is back")
		}
		// Values that were seeded still count as seeded.
		if stored, err := after.Seed(t.Context(), tokens.Seed{Portal: "3", Kind: tokens.APIKey, Secret: secret.New("key")}); err != nil || stored {
			t.Errorf("Seed = %t, %v", stored, err)
		}
	})
}

func TestResealDoesNothingWithoutKeys(t *testing.T) {
	t.Parallel()
	client, end := store.Embedded()
	t.Cleanup(end)
	s := newSource(t, newHub(t), tokens.Options{Redis: client})
	put(t, s, portalID, tokens.APIKey, "k")
	if resealed, err := s.Reseal(t.Context(), portalID, "test"); resealed || err != nil {
		t.Errorf("Reseal = %t, %v", resealed, err)
	}
}

// HubSpot accepts each refresh token once, so a lost refresh token means a lost portal.
func TestResealLosesNoTokenToRenewalsAtTheSameTime(t *testing.T) {
	onEachRedis(t, func(t *testing.T, connect connector) {
		hub, now, client := newHub(t), newClock(), connect(t)
		hub.SetToken(hubspottest.TokenBehaviour{Rotate: true})
		old, young := newKey(t, "old"), newKey(t, "young")
		// One process still seals with the old key, so that there is always
		// something to do.
		a := newSource(t, hub, tokens.Options{Redis: client, Now: now.now, Keys: ring(t, old, young)})
		b := newSource(t, hub, tokens.Options{Redis: connect(t), Now: now.now, Keys: ring(t, young, old)})
		ids := []string{"1", "2", "3"}
		for _, id := range ids {
			seed(t, a, hub, id)
		}
		ctx, stop := context.WithCancel(t.Context())
		var sealing, renewing sync.WaitGroup
		resealed := 0
		sealing.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				done, err := b.Reseal(t.Context(), ids[i%len(ids)], "test")
				if err != nil && !strings.Contains(err.Error(), "changes too fast") {
					t.Errorf("Reseal: %v", err)
					return
				}
				if done {
					resealed++
				}
			}
		})
		for _, id := range ids {
			renewing.Go(func() {
				for i := range 40 {
					c, err := a.Credential(t.Context(), id)
					if err == nil {
						_, err = a.Renew(t.Context(), c, true)
					}
					c2, err2 := b.Credential(t.Context(), id)
					if err != nil && !errors.Is(err, tokens.ErrNoOther) || err2 != nil || c2 == nil {
						t.Errorf("portal %s, round %d: %v, %v", id, i, err, err2)
						return
					}
					now.advance(31 * time.Second)
				}
			})
		}
		renewing.Wait()
		stop()
		sealing.Wait()
		if resealed == 0 {
			t.Error("nothing was sealed anew: this shows little")
		}
		for _, id := range ids {
			if _, err := b.Reseal(t.Context(), id, "test"); err != nil {
				t.Errorf("portal %s: %v", id, err)
			}
		}
		now.advance(tokenLife)
		after := newSource(t, hub, tokens.Options{Redis: connect(t), Now: now.now, Keys: ring(t, young)})
		for _, id := range ids {
			n := hub.TokenCalls(id)
			get(t, after, id)
			if hub.TokenCalls(id) != n+1 || n < 10 {
				t.Errorf("portal %s: %d token calls, then %d", id, n, hub.TokenCalls(id))
			}
		}
	})
}
