//go:build unix

package budget_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"hubspot-auth-proxy/proxy/budget"
	"hubspot-auth-proxy/tokens/redistest"
	"hubspot-auth-proxy/tokens/secret"
	"hubspot-auth-proxy/tokens/store"
)

// openCluster returns a client of the Cluster, as the program opens one.
func openCluster(t *testing.T, cluster redistest.Cluster) redis.UniversalClient {
	t.Helper()
	client, err := store.Open(secret.New(cluster[0].URL() + "?addr=" + cluster[1].Addr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func TestTurnsAreExactOnACluster(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t)
	all := []*budget.Budget{newBudget(t, openCluster(t, cluster)), newBudget(t, openCluster(t, cluster))}
	var calling sync.WaitGroup
	for i := range 6 {
		for _, search := range []bool{false, true} {
			calling.Go(func() {
				h := &hub{limit: 20, interval: time.Second, headers: true}
				if search {
					h.limit, h.headers = 5, false
				}
				w := &workers{hub: h, call: budget.Call{Portal: fmt.Sprint(i + 1), Client: "a", Search: search}, wait: time.Minute}
				saturate(t, all, w, 3*time.Second)
				if taken, refused := h.seen(); w.refused.Load() > 0 || taken < 2*h.limit || refused > 1 {
					t.Errorf("portal %d, search %t: %d calls of %d, %d of them 429, and %d were refused", i+1, search, taken, 3*h.limit, refused, w.refused.Load())
				}
			})
		}
	}
	calling.Wait()
	for _, node := range cluster {
		if keys := node.Do("keys", "hubspot:budget:*"); !strings.Contains(keys, ":search") {
			t.Errorf("a node of the Cluster has the windows %s", keys)
		}
	}
}

func TestUsageAndDailyLimitsAreExactOnACluster(t *testing.T) {
	t.Parallel()
	client := openCluster(t, redistest.StartCluster(t))
	all := []*budget.Budget{newBudget(t, client), newBudget(t, client)}
	const limit, clients = 60, 9
	now := time.Now()
	for i := range 2 * limit * clients {
		b, name := all[i/clients%2], fmt.Sprint("client-", i%clients)
		refused := (*budget.RefusedError)(nil)
		switch err := b.TakeDaily(t.Context(), name, limit, now); {
		case err == nil:
			b.Count(name, "62515", now)
		case !errors.As(err, &refused):
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	for _, b := range all {
		if err := b.Close(ctx); err != nil {
			t.Fatal(err)
		}
	}
	used, err := budget.ReadUsage(t.Context(), client, "hubspot:", 2, now)
	if err != nil || len(used) != clients {
		t.Fatalf("%d clients have calls: %v", len(used), err)
	}
	for _, one := range used {
		if one.Calls != limit {
			t.Errorf("%d calls of %s, whose limit is %d", one.Calls, one.Client, limit)
		}
	}
}
