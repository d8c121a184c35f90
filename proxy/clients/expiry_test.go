package clients_test

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"hubspot-auth-proxy/proxy/clients"
	"hubspot-auth-proxy/tokens/secret"
	"hubspot-auth-proxy/tokens/store"
	"hubspot-auth-proxy/tokens/testkit"
)

func newSetAt(t *testing.T, client redis.UniversalClient, now func() time.Time) (*clients.Set, *observer.ObservedLogs) {
	t.Helper()
	core, logs := observer.New(zap.DebugLevel)
	set := clients.NewSetAt(storeOf(client), zap.New(core), now)
	t.Cleanup(set.Close)
	return set, logs
}

// works returns which of the keys the set knows, by their index, and which it
// knows as expired.
func works(set *clients.Set, keys ...secret.Text) (working, expired []int) {
	for i, key := range keys {
		if set.Find(key) != nil {
			working = append(working, i)
		}
		if set.Expired(key) {
			expired = append(expired, i)
		}
	}
	return working, expired
}

func TestAKeyWorksUntilItExpires(t *testing.T) {
	onEachRedis(t, func(t *testing.T, connect func() redis.UniversalClient) {
		redis := connect()
		now := time.Date(2027, 1, 31, 12, 0, 0, 0, time.UTC)
		var offset atomic.Int64
		set, _ := newSetAt(t, redis, func() time.Time { return now.Add(time.Duration(offset.Load())) })
		stored, seeded, older, never := clients.NewKey(), clients.NewKey(), clients.NewKey(), clients.NewKey()
		if err := storeOf(redis).Add(t.Context(), clients.Client{Name: "stored", KeySHA256: clients.Hash(stored), Portals: []string{"1"}, Expires: now.Add(time.Hour)}); err != nil {
			t.Fatal(err)
		}
		if err := set.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		set.Seed([]clients.Client{{Name: "seeded", KeySHA256: clients.Hash(seeded), Portals: []string{"1"}, Expires: now.Add(2 * time.Hour),
			OlderKeys: []clients.Key{{SHA256: clients.Hash(older), Expires: now.Add(time.Minute)}, {SHA256: clients.Hash(never)}}}})
		for _, at := range []struct {
			after            time.Duration
			working, expired []int
		}{
			{0, []int{0, 1, 2, 3}, nil},
			{time.Minute - 1, []int{0, 1, 2, 3}, nil},
			{time.Minute, []int{0, 1, 3}, []int{2}},
			{time.Hour, []int{1, 3}, []int{0, 2}},
			{1000 * time.Hour, []int{3}, []int{0, 1, 2}},
		} {
			offset.Store(int64(at.after))
			working, expired := works(set, stored, seeded, older, never, clients.NewKey())
			if diff := cmp.Diff([][]int{at.working, at.expired}, [][]int{working, expired}); diff != "" {
				t.Errorf("after %v (-want +got):\n%s", at.after, diff)
			}
		}
	})
}

func TestARotatedKeyWorksUntilTheOverlapEnds(t *testing.T) {
	onEachRedis(t, func(t *testing.T, connect func() redis.UniversalClient) {
		redis := connect()
		store, began := storeOf(redis), time.Now()
		var offset atomic.Int64
		now := func() time.Time { return began.Add(time.Duration(offset.Load())) }
		after := func(d time.Duration) { offset.Store(int64(d)) }
		set, logs := newSetAt(t, redis, now)
		keys := []secret.Text{clients.NewKey(), clients.NewKey(), clients.NewKey()}
		rights := clients.Client{Name: "a", KeySHA256: clients.Hash(keys[0]), Portals: []string{"1", "2"}, ReadOnly: true, Paths: []string{"/crm"}}
		if err := store.Add(t.Context(), rights); err != nil {
			t.Fatal(err)
		}
		rotate := func(key secret.Text, overlap time.Duration) clients.Client {
			t.Helper()
			client, err := store.Rotate(t.Context(), "a", key, time.Time{}, overlap, now())
			if err != nil {
				t.Fatal(err)
			}
			if err := set.Load(t.Context()); err != nil {
				t.Fatal(err)
			}
			return client
		}
		want := func(working, expired []int) {
			t.Helper()
			gotWorking, gotExpired := works(set, keys...)
			if diff := cmp.Diff([][]int{working, expired}, [][]int{gotWorking, gotExpired}); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		}
		rotate(keys[1], 24*time.Hour)
		want([]int{0, 1}, nil)
		after(23 * time.Hour)
		last := rotate(keys[2], 24*time.Hour) // the first one gets no more time
		want([]int{0, 1, 2}, nil)
		if n := last.Working(now()); n != 3 {
			t.Errorf("%d keys work", n)
		}
		last.KeySHA256, last.OlderKeys = rights.KeySHA256, nil
		if diff := cmp.Diff(rights, last); diff != "" {
			t.Errorf("its rights (-want +got):\n%s", diff)
		}
		after(24 * time.Hour)
		want([]int{1, 2}, []int{0})
		after(47 * time.Hour)
		want([]int{2}, []int{0, 1})
		keys = append(keys, clients.NewKey())
		if ended := rotate(keys[3], 0); len(ended.OlderKeys) != 0 {
			t.Errorf("%d keys are kept that have ended", len(ended.OlderKeys))
		}
		want([]int{3}, nil) // those that have ended are not known any more
		if n := logs.FilterMessageSnippet("was replaced").Len(); n < 2 || n > 6 {
			t.Errorf("the use of an older key is reported %d times", n)
		}
	})
}

func TestRotatingAtOnceLosesNoKeyOfThose(t *testing.T) {
	onEachRedis(t, func(t *testing.T, connect func() redis.UniversalClient) {
		redis := connect()
		store := storeOf(redis)
		first := clients.NewKey()
		if err := store.Add(t.Context(), clients.Client{Name: "a", KeySHA256: clients.Hash(first), Portals: []string{"1"}}); err != nil {
			t.Fatal(err)
		}
		keys := []secret.Text{first}
		var rotating sync.WaitGroup
		for range 8 {
			key := clients.NewKey()
			keys = append(keys, key)
			rotating.Go(func() {
				if _, err := store.Rotate(t.Context(), "a", key, time.Time{}, time.Hour, time.Now()); err != nil {
					t.Error(err)
				}
			})
		}
		rotating.Wait()
		set, _ := newSet(t, redis)
		if err := set.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		if working, _ := works(set, keys...); len(working) != 9 {
			t.Errorf("only %v work", working)
		}
	})
}

func TestOnlyAClientThatIsThereIsRotated(t *testing.T) {
	onEachRedis(t, func(t *testing.T, connect func() redis.UniversalClient) {
		redis := connect()
		store := storeOf(redis)
		if _, err := store.Rotate(t.Context(), "a", clients.NewKey(), time.Time{}, 0, time.Now()); !errors.Is(err, clients.ErrUnknown) {
			t.Errorf("error %v", err)
		}
		for _, damaged := range []string{"{", `{"name":"b"}`, `{"name":"a","key_sha256":"x","portals":["1"]}`, `{"name":"a","key_sha256":"` + strings.Repeat("0", 64) + `","portals":["1"],"paths":[]}`} {
			if err := redis.HSet(t.Context(), prefix+"clients", "client:a", damaged).Err(); err != nil {
				t.Fatal(err)
			}
			if _, err := store.Rotate(t.Context(), "a", clients.NewKey(), time.Time{}, 0, time.Now()); !errors.As(err, new(*clients.DamagedError)) {
				t.Errorf("%s: error %v", damaged, err)
			}
		}
	})
}

func TestKeysThatExpireSoonAreReported(t *testing.T) {
	t.Parallel()
	redis, end := store.Embedded()
	t.Cleanup(end)
	core, logs := observer.New(zap.DebugLevel)
	set := clients.NewSetEvery(storeOf(redis), zap.New(core), 10*time.Millisecond)
	t.Cleanup(set.Close)
	now, hash := time.Now(), func(c string) string { return strings.Repeat(c, 64) }
	set.Seed([]clients.Client{
		{Name: "never", KeySHA256: hash("0"), Portals: []string{"1"}},
		{Name: "later", KeySHA256: hash("1"), Portals: []string{"1"}, Expires: now.Add(15 * 24 * time.Hour)},
		{Name: "soon", KeySHA256: hash("2"), Portals: []string{"1"}, Expires: now.Add(13 * 24 * time.Hour)},
		{Name: "past", KeySHA256: hash("3"), Portals: []string{"1"}, Expires: now.Add(-time.Hour)},
	})
	if n := set.Expiring(); n != 2 {
		t.Errorf("%d expire", n)
	}
	const message = "expires soon, or has expired"
	testkit.Eventually(t, "it is reported", func() bool { return logs.FilterMessageSnippet(message).Len() >= 2 })
	var named []string
	for _, entry := range logs.FilterMessageSnippet(message).All() {
		named = append(named, entry.ContextMap()["client"].(string))
	}
	if diff := cmp.Diff([]string{"soon", "past"}, named); diff != "" { // once a day
		t.Errorf("(-want +got):\n%s", diff)
	}
}
