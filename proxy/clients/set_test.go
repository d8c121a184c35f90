package clients_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"hubspot-auth-proxy/proxy/clients"
	"hubspot-auth-proxy/tokens/redistest"
	"hubspot-auth-proxy/tokens/secret"
	"hubspot-auth-proxy/tokens/store"
	"hubspot-auth-proxy/tokens/testkit"
)

func TestTheStoreKeepsClientsByName(t *testing.T) {
	onEachRedis(t, func(t *testing.T, connect func() redis.UniversalClient) {
		client := connect()
		store := storeOf(client)
		wantNames(t, store)
		b, bKey := newClient("b", "1", "2")
		b.ReadOnly = true
		a, aKey := newClient("a", "*")
		for _, c := range []clients.Client{b, a} {
			if err := store.Add(t.Context(), c); err != nil {
				t.Fatal(err)
			}
		}
		list, err := store.List(t.Context())
		if diff := cmp.Diff([]clients.Client{a, b}, list); err != nil || diff != "" {
			t.Errorf("%v, -want +got:\n%s", err, diff)
		}
		// The same name again is another key for that client.
		add(t, store, "b", "3")
		wantNames(t, store, "a", "b")
		if err := store.Add(t.Context(), clients.Client{Name: "c:d"}); err == nil {
			t.Error("a client that Check refuses is stored")
		}
		remove(t, store, "a")
		if err := store.Remove(t.Context(), "a"); !errors.Is(err, clients.ErrUnknown) {
			t.Errorf("removed twice: %v", err)
		}
		if err := store.Remove(t.Context(), "version"); !errors.Is(err, clients.ErrUnknown) {
			t.Errorf("the version is removed: %v", err)
		}
		wantNames(t, store, "b")
		for key, value := range client.HGetAll(t.Context(), prefix+"clients").Val() {
			for _, secret := range []secret.Text{aKey, bKey} {
				if strings.Contains(value, secret.Reveal()) {
					t.Errorf("%s has a key", key)
				}
			}
		}
	})
}

func TestChangesTakeEffectInAnotherProcessAtOnce(t *testing.T) {
	onEachRedis(t, func(t *testing.T, connect func() redis.UniversalClient) {
		store := storeOf(connect())
		early := add(t, store, "early", "1")
		s, _ := newSet(t, connect())
		reload(t, s)
		if c := s.Find(early); c == nil || c.Name != "early" {
			t.Errorf("Find = %v", c)
		}
		if c := s.Find(clients.NewKey()); c != nil {
			t.Errorf("an unknown key is %v", c)
		}
		late := add(t, store, "late", "2")
		testkit.Eventually(t, "the new client is known", func() bool { return knows(s, late) })
		again := add(t, store, "late", "2")
		testkit.Eventually(t, "its new key is known", func() bool { return knows(s, again) })
		if knows(s, late) {
			t.Error("its old key is known still")
		}
		remove(t, store, "early")
		testkit.Eventually(t, "the removed client is cut off", func() bool { return !knows(s, early) })
		if !knows(s, again) {
			t.Error("the other was cut off too")
		}
	})
}

func TestAChangeWhoseEventWasLostIsFoundByReadingAgain(t *testing.T) {
	onEachRedis(t, func(t *testing.T, connect func() redis.UniversalClient) {
		client := connect()
		key := add(t, storeOf(client), "a", "1")
		s := clients.NewSetEvery(storeOf(client), zap.NewNop(), 10*time.Millisecond)
		defer s.Close()
		testkit.Eventually(t, "the client is known", func() bool { return knows(s, key) })
		client.HDel(t.Context(), prefix+"clients", "client:a")
		client.HIncrBy(t.Context(), prefix+"clients", "version", 1)
		testkit.Eventually(t, "it is cut off", func() bool { return !knows(s, key) })
	})
}

func TestWithRedisAwayTheKnownClientsStay(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Persist())
	store := storeOf(dial(t, server))
	key := add(t, store, "a", "1")
	s, _ := newSet(t, dial(t, server))
	reload(t, s)
	server.Kill()
	if err := s.Load(t.Context()); err == nil {
		t.Error("Load has no error")
	}
	if err := store.Add(t.Context(), clients.Client{Name: "b", KeySHA256: clients.Hash(key), Portals: []string{"*"}}); err == nil {
		t.Error("Add has no error")
	}
	if err := store.Remove(t.Context(), "a"); err == nil || errors.Is(err, clients.ErrUnknown) {
		t.Errorf("Remove: %v", err)
	}
	if !knows(s, key) {
		t.Error("a known client is cut off")
	}
	server.Restart()
	testkit.Eventually(t, "Redis is dialled again", func() bool { return store.Redis.Ping(t.Context()).Err() == nil })
	other := add(t, store, "b", "2")
	testkit.Eventually(t, "changes are heard of again", func() bool { return knows(s, other) })
	if !knows(s, key) {
		t.Error("the first is cut off")
	}
}

// What a reading that began before a change has seen does not undo it.
func TestALateReadingDoesNotUndoAChange(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	store := storeOf(dial(t, server))
	key := add(t, store, "a", "1")
	client := dial(t, server)
	var hold atomic.Bool
	held, release := make(chan struct{}), make(chan struct{})
	client.AddHook(&commands{after: func(cmd redis.Cmder) {
		if cmd.Name() == "hgetall" && hold.CompareAndSwap(true, false) {
			close(held)
			<-release
		}
	}})
	s, _ := newSet(t, client)
	reload(t, s)
	hold.Store(true)
	done := make(chan error, 1)
	go func() { done <- s.Load(context.WithoutCancel(t.Context())) }()
	<-held
	remove(t, store, "a")
	close(release)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the client is cut off", func() bool { return !knows(s, key) })
	for range 20 {
		reload(t, s)
		if knows(s, key) {
			t.Fatal("the removed client has come back")
		}
	}
}

func TestWrongKeysCostRedisNothing(t *testing.T) {
	t.Parallel()
	client, end := store.Embedded()
	t.Cleanup(end)
	count := new(commands)
	client.AddHook(count)
	key := add(t, storeOf(client), "a", "1")
	s, _ := newSet(t, client)
	reload(t, s)
	before := count.count.Load()
	for i := range 100_000 {
		if knows(s, secret.New(fmt.Sprintf("hap_%d", i))) || knows(s, secret.New(key.Reveal()[:len(key.Reveal())-1])) {
			t.Fatal("a wrong key is known")
		}
	}
	// The set reads when its subscription stands, which may be only now.
	if n := count.count.Load() - before; n > 10 {
		t.Errorf("%d commands", n)
	}
	if !knows(s, key) {
		t.Error("the right key is not known")
	}
}

func TestSeededClientsLiveByTheirFile(t *testing.T) {
	t.Parallel()
	client, end := store.Embedded()
	t.Cleanup(end)
	store := storeOf(client)
	s, _ := newSet(t, client)
	seeded, key := newClient("seeded", "1")
	other, otherKey := newClient("other", "*")
	s.Seed([]clients.Client{seeded, other})
	if !knows(s, key) || !knows(s, otherKey) {
		t.Error("seeded clients are not known")
	}
	reload(t, s)
	if !knows(s, key) {
		t.Error("reading the store cuts off seeded clients")
	}
	wantNames(t, store)

	// The same key in Redis, for more: the file is what counts.
	if err := store.Add(t.Context(), clients.Client{Name: "stored", KeySHA256: seeded.KeySHA256, Portals: []string{"*"}}); err != nil {
		t.Fatal(err)
	}
	reload(t, s)
	if c := s.Find(key); c == nil || c.Name != "seeded" {
		t.Errorf("the key is %v", c)
	}
	s.Seed([]clients.Client{seeded})
	if knows(s, otherKey) {
		t.Error("a client that is gone from the file is not cut off")
	}
	s.Seed(nil)
	if c := s.Find(key); c == nil || c.Name != "stored" {
		t.Errorf("without the file, the key is %v", c)
	}
	remove(t, store, "stored")
	testkit.Eventually(t, "the key is cut off", func() bool { return !knows(s, key) })
}

func TestASetOutlivesItsRedisClientQuietly(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := dial(t, server)
	count := new(commands)
	client.AddHook(count)
	key := add(t, storeOf(client), "a", "1")
	s, _ := newSet(t, client)
	reload(t, s)
	_ = client.Close()
	if err := s.Load(t.Context()); err == nil {
		t.Error("Load has no error")
	}
	if !knows(s, key) {
		t.Error("the client is cut off")
	}
	s.Close()
	if n := count.count.Load(); n > 20 {
		t.Errorf("%d commands", n)
	}
}

func TestFindWhileAllChanges(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	store := storeOf(dial(t, server))
	stays := add(t, store, "stays", "1")
	s, _ := newSet(t, dial(t, server))
	reload(t, s)
	seeded, seededKey := newClient("seeded", "2")
	s.Seed([]clients.Client{seeded})
	ctx, stop := context.WithCancel(t.Context())
	var readers, writers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for ctx.Err() == nil {
				if c := s.Find(stays); c == nil || c.Name != "stays" {
					t.Error("a client that stays is not known")
					return
				}
				if c := s.Find(seededKey); c == nil || c.Name != "seeded" {
					t.Error("a seeded client is not known")
					return
				}
			}
		})
	}
	var last atomic.Pointer[secret.Text]
	for w := range 2 {
		writers.Go(func() {
			for i := range 40 {
				key := add(t, store, fmt.Sprintf("w%d", w), "1")
				if i == 39 && w == 0 {
					last.Store(&key)
				}
				s.Seed([]clients.Client{seeded})
				_ = s.Load(t.Context())
			}
		})
	}
	writers.Wait()
	stop()
	readers.Wait()
	testkit.Eventually(t, "the last key is known", func() bool { return knows(s, *last.Load()) })
	wantNames(t, store, "stays", "w0", "w1")
}
