package clients_test

import (
	"testing"

	"github.com/redis/go-redis/v9"

	"hubspot-auth-proxy/tokens/redistest"
	"hubspot-auth-proxy/tokens/testkit"
)

func TestAddingAClientToAnEmptiedRedisLosesNobody(t *testing.T) {
	onEachRedis(t, func(t *testing.T, connect func() redis.UniversalClient) {
		client := connect()
		alpha := add(t, storeOf(client), "alpha", "1")
		beta := add(t, storeOf(client), "beta", "1")
		s, _ := newSet(t, client)
		reload(t, s)
		if err := redistest.Admin(t, client).FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		gamma := add(t, storeOf(client), "gamma", "1")
		testkit.Eventually(t, "all three are known", func() bool { return knows(s, alpha) && knows(s, beta) && knows(s, gamma) })
		wantNames(t, storeOf(client), "alpha", "beta", "gamma")

		// And the next change is newer than what was restored.
		remove(t, storeOf(client), "alpha")
		testkit.Eventually(t, "alpha is cut off", func() bool { return !knows(s, alpha) && knows(s, gamma) })
	})
}
