package tokens_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/secret"
	"hubspot-auth-proxy/tokens/store"
	"hubspot-auth-proxy/tokens/testkit"
)

// damages are fields that make a record unusable.
var damages = map[string][]any{
	"another schema":      {"schema", "2"},
	"no schema":           {"schema", ""},
	"an unknown kind":     {"kind", "password"},
	"an unknown state":    {"state", "resting"},
	"no refresh_token":    {"refresh_token", ""},
	"a bad generation":    {"generation", "x"},
	"no generation":       {"generation", ""},
	"a huge generation":   {"generation", "99999999999999999999"},
	"a bad expires_at":    {"expires_at", "tomorrow"},
	"a bad renewed_at":    {"renewed_at", "1e3"},
	"several of them":     {"kind", "", "state", "", "generation", "", "schema", ""},
	"nothing that we use": {"schema", "7", "kind", hubspottest.Canary, "state", "", "generation", "nan"},
}

func TestADamagedRecordIsAnErrorAndIsNotOverwritten(t *testing.T) {
	t.Parallel()
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			onEachRedis(t, func(t *testing.T, connect connector) {
				hub, now, client := newHub(t), newClock(), connect(t)
				knows := newSource(t, hub, tokens.Options{Redis: client, Now: now.now})
				seed(t, knows, hub, portalID)
				c := get(t, knows, portalID)
				if err := client.HSet(t.Context(), recordKey, damage...).Err(); err != nil {
					t.Fatal(err)
				}
				before := client.HGetAll(t.Context(), recordKey).Val()

				fresh := newSource(t, hub, tokens.Options{Redis: connect(t), Now: now.now})
				listening(t, client, 2)
				if !answers(t, fresh, portalID, &tokens.UnavailableError{}) {
					t.Error("a source that reads it has no UnavailableError")
				}
				if get(t, knows, portalID) != c {
					t.Error("who knows the portal does not serve it")
				}
				now.advance(tokenLife)
				for range 3 {
					if !answers(t, knows, portalID, &tokens.UnavailableError{}) {
						t.Error("who would renew it has no UnavailableError")
					}
					if _, err := knows.Renew(t.Context(), c, true); !isError(t, err, &tokens.UnavailableError{}) {
						t.Errorf("Renew: %v", err)
					}
				}
				if diff := cmp.Diff(before, client.HGetAll(t.Context(), recordKey).Val()); diff != "" {
					t.Errorf("the record was changed, -before +after:\n%s", diff)
				}
				wantCalls(t, hub, 1)

				// The operator can set the portal again. Only Force replaces a record of a newer version.
				err := knows.Remove(t.Context(), portalID, "test")
				if _, newer := errors.AsType[*store.NewerError](err); newer {
					forced := tokens.Seed{Portal: portalID, Kind: tokens.AccessToken, Secret: secret.New("forced")}
					err = errors.Join(knows.Force(t.Context(), forced, "test"), knows.Remove(t.Context(), portalID, "test"))
				}
				if err != nil {
					t.Fatal(err)
				}
				seed(t, knows, hub, portalID)
				testkit.Eventually(t, "the new grant is in force", func() bool {
					_, err := fresh.Credential(t.Context(), portalID)
					return err == nil
				})
			})
		})
	}
}

// The renewal was under way when the record was damaged.
func TestALateAnswerDoesNotOverwriteADamagedRecord(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"another schema", "a bad generation", "a huge generation"} {
		t.Run(name, func(t *testing.T) {
			onEachRedis(t, func(t *testing.T, connect connector) {
				_, _, s, _, g, call := late(t, connect, hubspottest.TokenBehaviour{Rotate: true})
				client := connect(t)
				if err := client.HSet(t.Context(), recordKey, damages[name]...).Err(); err != nil {
					t.Fatal(err)
				}
				before := client.HGetAll(t.Context(), recordKey).Val()
				g.open()
				if r := await(t, call); r.err != nil {
					t.Errorf("the token is not served: %v", r.err)
				}
				get(t, s, portalID)
				if diff := cmp.Diff(before, client.HGetAll(t.Context(), recordKey).Val()); diff != "" {
					t.Errorf("the record was changed, -before +after:\n%s", diff)
				}
			})
		})
	}
}

// The program never deletes a record, so a missing record was lost.
func TestAMissingRecordIsWrittenBack(t *testing.T) {
	onEachRedis(t, func(t *testing.T, connect connector) {
		hub, now, client := newHub(t), newClock(), connect(t)
		s := newSource(t, hub, tokens.Options{Redis: client, Now: now.now})
		seed(t, s, hub, portalID)
		held := get(t, s, portalID)
		before := client.HGetAll(t.Context(), recordKey).Val()
		if err := client.Del(t.Context(), recordKey).Err(); err != nil {
			t.Fatal(err)
		}
		now.advance(72 * time.Second) // the record is read again
		testkit.Eventually(t, "it is stored again", func() bool {
			now.advance(time.Second) // a read may have been under way
			return get(t, s, portalID).Secret.Equal(held.Secret) && client.Exists(t.Context(), recordKey).Val() == 1
		})
		if diff := cmp.Diff(before, client.HGetAll(t.Context(), recordKey).Val()); diff != "" {
			t.Errorf("it is another one, -before +after:\n%s", diff)
		}
		wantCalls(t, hub, 1)
	})
}
