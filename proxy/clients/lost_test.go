package clients_test

import (
	"errors"
	"testing"

	"github.com/redis/go-redis/v9"

	"hubspot-auth-proxy/proxy/clients"
	"hubspot-auth-proxy/tokens/redistest"
	"hubspot-auth-proxy/tokens/testkit"
)

func TestAnEmptiedRedisGetsItsClientsBack(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	store := storeOf(dial(t, server))
	a, b := add(t, store, "a", "1"), add(t, store, "b", "*")
	remove(t, store, "a")
	s, logs := newSet(t, dial(t, server))
	reload(t, s)
	server.Restart() // without its data
	testkit.Eventually(t, "the clients are stored again", func() bool {
		list, err := store.List(t.Context())
		return err == nil && len(list) == 1
	})
	wantNames(t, store, "b")
	if knows(s, a) || !knows(s, b) {
		t.Error("not the same clients are known")
	}
	testkit.Eventually(t, "the loss is logged", func() bool { return logs.FilterMessageSnippet("lost clients").Len() > 0 })
	// And changes work as ever.
	remove(t, store, "b")
	testkit.Eventually(t, "the removed client is cut off", func() bool { return !knows(s, b) })
}

// An operator who tries to remove somebody must not thereby make an emptied
// Redis the newest set.
func TestRemovingNobodyFromAnEmptiedRedisLosesNobody(t *testing.T) {
	onEachRedis(t, func(t *testing.T, connect func() redis.UniversalClient) {
		client := connect()
		store := storeOf(client)
		key := add(t, store, "a", "1")
		s, _ := newSet(t, connect())
		reload(t, s)
		redistest.Admin(t, client).FlushDB(t.Context())
		if err := store.Remove(t.Context(), "nobody"); !errors.Is(err, clients.ErrUnknown) {
			t.Errorf("Remove: %v", err)
		}
		reload(t, s)
		if !knows(s, key) {
			t.Error("the client is cut off")
		}
		wantNames(t, store, "a")
	})
}

// rollback returns what puts Redis back to what it has now, as a failover to a
// replica that lags behind does: without an event.
func rollback(t *testing.T, client redis.UniversalClient) func() {
	t.Helper()
	before := client.HGetAll(t.Context(), prefix+"clients").Val()
	return func() {
		t.Helper()
		_, err := redistest.Admin(t, client).TxPipelined(t.Context(), func(p redis.Pipeliner) error {
			p.Del(t.Context(), prefix+"clients")
			return p.HSet(t.Context(), prefix+"clients", before).Err()
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestARemovedClientDoesNotReturnWithAnOlderRedis(t *testing.T) {
	onEachRedis(t, func(t *testing.T, connect func() redis.UniversalClient) {
		client := connect()
		store := storeOf(client)
		a, b := add(t, store, "a", "1"), add(t, store, "b", "1")
		goBack := rollback(t, client)
		remove(t, store, "a")
		s, _ := newSet(t, connect())
		reload(t, s)
		goBack()
		reload(t, s)
		if knows(s, a) || !knows(s, b) {
			t.Error("the older set is taken over")
		}
		wantNames(t, store, "b")
		fresh, _ := newSet(t, connect())
		reload(t, fresh)
		if knows(fresh, a) {
			t.Error("a new process lets the removed client in")
		}
	})
}

// Two processes hold different sets, because one has missed an event. The newer set
// prevails, whichever process restores its set first.
func TestOfTwoHeldSetsTheNewerPrevails(t *testing.T) {
	for _, order := range []string{"the older first", "the newer first"} {
		t.Run(order, func(t *testing.T) {
			onEachRedis(t, func(t *testing.T, connect func() redis.UniversalClient) {
				client := connect()
				store := storeOf(client)
				a, b := add(t, store, "a", "1"), add(t, store, "b", "1")
				older, _ := newSet(t, connect())
				newer, _ := newSet(t, connect())
				reload(t, older, newer)
				goBack := rollback(t, client)
				remove(t, store, "a")
				testkit.Eventually(t, "the removal is heard of", func() bool { return !knows(newer, a) && !knows(older, a) })
				// Another of them, that begins with what was there before.
				goBack()
				behind, _ := newSet(t, connect())
				if order == "the newer first" {
					reload(t, newer)
				}
				reload(t, behind)
				redistest.Admin(t, client).FlushDB(t.Context())
				reload(t, behind)
				reload(t, newer, older, behind)
				for _, s := range []*clients.Set{newer, older, behind} {
					if knows(s, a) || !knows(s, b) {
						t.Error("the older set prevails")
					}
				}
				wantNames(t, store, "b")
			})
		})
	}
}
