package tokens_test

import (
	"testing"

	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/redistest"
	"hubspot-auth-proxy/tokens/secret"
	"hubspot-auth-proxy/tokens/testkit"
)

func TestASeedDoesNotBringARemovedPortalBackAfterRedisIsEmptied(t *testing.T) {
	onEachFullRedis(t, func(t *testing.T, connect connector) {
		hub, client := newHub(t), connect(t)
		a := newSource(t, hub, tokens.Options{Redis: connect(t)})
		b := newSource(t, hub, tokens.Options{Redis: connect(t)})
		listening(t, client, 2)
		first := seed(t, a, hub, portalID)
		get(t, a, portalID)
		if err := b.Remove(t.Context(), portalID, "test"); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, "a hears of it", func() bool { return answers(t, a, portalID, tokens.ErrNotConnected) })

		if err := redistest.Admin(t, client).FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		again := tokens.Seed{Portal: portalID, Kind: tokens.OAuth, Secret: secret.New(first)}
		// An emptied Redis stores the seed, unless a has written the tombstone back before.
		if stored, err := b.Seed(t.Context(), again); err != nil || !stored && field(t, client, "state") != "removed" {
			t.Fatalf("the seed is stored: %v, %v", stored, err)
		}
		testkit.Eventually(t, "a has stored the tombstone again", func() bool {
			return field(t, client, "state") == "removed" && answers(t, b, portalID, tokens.ErrNotConnected)
		})
		if !answers(t, a, portalID, tokens.ErrNotConnected) {
			t.Error("a serves it")
		}
		if stored, err := b.Seed(t.Context(), again); err != nil || stored {
			t.Errorf("the tombstone has lost the seed's hash: %v, %v", stored, err)
		}
	})
}

// FLUSHALL closes no connection, and no call is made meanwhile.
func TestRecordsAreWrittenBackAfterAFlushWithoutACall(t *testing.T) {
	onEachFullRedis(t, func(t *testing.T, connect connector) {
		hub, client := newHub(t), connect(t)
		s := newSource(t, hub, tokens.Options{Redis: client})
		seed(t, s, hub, portalID)
		held := get(t, s, portalID)
		if err := redistest.Admin(t, client).FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, "the portal is stored again", func() bool {
			return held.Secret.Equal(secret.New(field(t, client, "access_token")))
		})
	})
}
