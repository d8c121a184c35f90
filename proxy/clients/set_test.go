package clients_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"hubspot-auth-proxy/proxy/clients"
	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/redistest"
	"hubspot-auth-proxy/tokens/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const prefix = "hubspot:"

// onEachRedis runs the test with the embedded Redis, and with a real one if
// that is installed. Each call of connect is another process.
func onEachRedis(t *testing.T, test func(t *testing.T, connect func() redis.UniversalClient)) {
	t.Parallel()
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		client, end := tokens.EmbeddedRedis()
		t.Cleanup(end)
		test(t, func() redis.UniversalClient { return client })
	})
	t.Run("real", func(t *testing.T) {
		t.Parallel()
		server := redistest.Start(t)
		test(t, func() redis.UniversalClient { return dial(t, server) })
	})
}

func dial(t *testing.T, server *redistest.Server) redis.UniversalClient {
	t.Helper()
	client, err := tokens.OpenRedis(secret.New(server.URL()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func storeOf(client redis.UniversalClient) clients.Store {
	return clients.Store{Redis: client, Prefix: prefix}
}

// newSet returns a set, closed with the test, and its log.
func newSet(t *testing.T, client redis.UniversalClient) (*clients.Set, *observer.ObservedLogs) {
	t.Helper()
	core, logs := observer.New(zapcore.DebugLevel)
	s := clients.NewSet(storeOf(client), zap.New(core))
	t.Cleanup(s.Close)
	return s, logs
}

// newClient returns a client and its key.
func newClient(name string, portals ...string) (clients.Client, secret.Text) {
	key := clients.NewKey()
	return clients.Client{Name: name, KeySHA256: clients.Hash(key), Portals: portals}, key
}

// add stores a new client and returns its key.
func add(t *testing.T, store clients.Store, name string, portals ...string) secret.Text {
	t.Helper()
	client, key := newClient(name, portals...)
	if err := store.Add(t.Context(), client); err != nil {
		t.Fatal(err)
	}
	return key
}

func remove(t *testing.T, store clients.Store, name string) {
	t.Helper()
	if err := store.Remove(t.Context(), name); err != nil {
		t.Fatal(err)
	}
}

func reload(t *testing.T, sets ...*clients.Set) {
	t.Helper()
	for _, s := range sets {
		if err := s.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func knows(s *clients.Set, key secret.Text) bool {
	_, known := s.Find(key)
	return known
}

// wantNames fails the test unless the store has those clients.
func wantNames(t *testing.T, store clients.Store, want ...string) {
	t.Helper()
	list, err := store.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, c := range list {
		names = append(names, c.Name)
	}
	if diff := cmp.Diff(append([]string{}, want...), names); diff != "" {
		t.Errorf("stored, -want +got:\n%s", diff)
	}
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	for !condition() {
		select {
		case <-ticker.C:
		case <-deadline.C:
			t.Fatalf("not in time: %s", what)
		}
	}
}

// commands is a hook that sees the commands of a client, and can make them
// fail.
type commands struct {
	count atomic.Int64
	cut   atomic.Bool
	after func(redis.Cmder) // nil: nothing
}

func (c *commands) DialHook(next redis.DialHook) redis.DialHook { return next }

func (c *commands) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		c.count.Add(1)
		if c.cut.Load() {
			err := errors.New("cut off by the test")
			cmd.SetErr(err)
			return err
		}
		err := next(ctx, cmd)
		if c.after != nil {
			c.after(cmd)
		}
		return err
	}
}

func (c *commands) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		c.count.Add(int64(len(cmds)))
		return next(ctx, cmds)
	}
}

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

func TestAnotherProcessHearsOfChangesAtOnce(t *testing.T) {
	onEachRedis(t, func(t *testing.T, connect func() redis.UniversalClient) {
		store := storeOf(connect())
		early := add(t, store, "early", "1")
		s, _ := newSet(t, connect())
		reload(t, s)
		if c, known := s.Find(early); !known || c.Name != "early" {
			t.Errorf("Find = %v, %t", c, known)
		}
		if c, known := s.Find(clients.NewKey()); known || c != nil {
			t.Errorf("an unknown key is %v", c)
		}
		late := add(t, store, "late", "2")
		eventually(t, "the new client is known", func() bool { return knows(s, late) })
		again := add(t, store, "late", "2")
		eventually(t, "its new key is known", func() bool { return knows(s, again) })
		if knows(s, late) {
			t.Error("its old key is known still")
		}
		remove(t, store, "early")
		eventually(t, "the removed client is cut off", func() bool { return !knows(s, early) })
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
		eventually(t, "the client is known", func() bool { return knows(s, key) })
		client.HDel(t.Context(), prefix+"clients", "client:a")
		client.HIncrBy(t.Context(), prefix+"clients", "version", 1)
		eventually(t, "it is cut off", func() bool { return !knows(s, key) })
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
	other := add(t, store, "b", "2")
	eventually(t, "changes are heard of again", func() bool { return knows(s, other) })
	if !knows(s, key) {
		t.Error("the first is cut off")
	}
}

func TestAnEmptiedRedisGetsItsClientsBack(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	store := storeOf(dial(t, server))
	a, b := add(t, store, "a", "1"), add(t, store, "b", "*")
	remove(t, store, "a")
	s, logs := newSet(t, dial(t, server))
	reload(t, s)
	server.Restart() // without its data
	eventually(t, "the clients are stored again", func() bool {
		list, err := store.List(t.Context())
		return err == nil && len(list) == 1
	})
	wantNames(t, store, "b")
	if knows(s, a) || !knows(s, b) {
		t.Error("not the same clients are known")
	}
	eventually(t, "it is told", func() bool { return logs.FilterMessageSnippet("lost clients").Len() > 0 })
	// And changes work as ever.
	remove(t, store, "b")
	eventually(t, "the removed client is cut off", func() bool { return !knows(s, b) })
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
		client.FlushDB(t.Context())
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
		_, err := client.TxPipelined(t.Context(), func(p redis.Pipeliner) error {
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

// Two processes hold different sets, as one has missed an event. Whoever
// restores first, the newer set prevails.
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
				eventually(t, "the removal is heard of", func() bool { return !knows(newer, a) && !knows(older, a) })
				// Another of them, that begins with what was there before.
				goBack()
				behind, _ := newSet(t, connect())
				if order == "the newer first" {
					reload(t, newer)
				}
				reload(t, behind)
				client.FlushDB(t.Context())
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
	eventually(t, "the client is cut off", func() bool { return !knows(s, key) })
	for range 20 {
		reload(t, s)
		if knows(s, key) {
			t.Fatal("the removed client has come back")
		}
	}
}

func TestWrongKeysCostRedisNothing(t *testing.T) {
	t.Parallel()
	client, end := tokens.EmbeddedRedis()
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
	client, end := tokens.EmbeddedRedis()
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
	if c, _ := s.Find(key); c == nil || c.Name != "seeded" {
		t.Errorf("the key is %v", c)
	}
	s.Seed([]clients.Client{seeded})
	if knows(s, otherKey) {
		t.Error("a client that is gone from the file is not cut off")
	}
	s.Seed(nil)
	if c, _ := s.Find(key); c == nil || c.Name != "stored" {
		t.Errorf("without the file, the key is %v", c)
	}
	remove(t, store, "stored")
	eventually(t, "the key is cut off", func() bool { return !knows(s, key) })
}

func TestADamagedClientIsCutOffAloneAndLoudly(t *testing.T) {
	good, key := newClient("good", "1")
	asJSON := func(name, hash, portals string) string {
		return fmt.Sprintf(`{"name":%q,"key_sha256":%q,"portals":%s}`, name, hash, portals)
	}
	badKey := clients.NewKey()
	for name, value := range map[string]string{
		"no JSON":           `{"name":"bad`,
		"nothing":           ``,
		"null":              `null`,
		"a list":            `[]`,
		"another's name":    asJSON("good", clients.Hash(badKey), `["*"]`),
		"no name":           asJSON("", clients.Hash(badKey), `["*"]`),
		"no hash":           asJSON("bad", "", `["*"]`),
		"no portals":        asJSON("bad", clients.Hash(badKey), `[]`),
		"all and another":   asJSON("bad", clients.Hash(badKey), `["*","1"]`),
		"portals, a number": asJSON("bad", clients.Hash(badKey), `[1]`),
		"two values":        asJSON("bad", clients.Hash(badKey), `["*"]`) + `{}`,
	} {
		t.Run(name, func(t *testing.T) {
			onEachRedis(t, func(t *testing.T, connect func() redis.UniversalClient) {
				client := connect()
				store := storeOf(client)
				if err := store.Add(t.Context(), good); err != nil {
					t.Fatal(err)
				}
				leaver := add(t, store, "leaver", "1")
				if err := client.HSet(t.Context(), prefix+"clients", "client:bad", value).Err(); err != nil {
					t.Fatal(err)
				}
				s, logs := newSet(t, connect())
				reload(t, s)
				if !knows(s, key) || !knows(s, leaver) || knows(s, badKey) || knows(s, secret.New("")) {
					t.Error("not all others are known, or the damaged one is")
				}
				if told := logs.FilterLevelExact(zapcore.ErrorLevel).All(); len(told) == 0 || !strings.Contains(fmt.Sprint(told[0].ContextMap()), `"bad"`) {
					t.Errorf("the log does not name it: %v", told)
				}
				// It does not keep others from being cut off.
				remove(t, store, "leaver")
				eventually(t, "a removed client is cut off", func() bool { return !knows(s, leaver) })
				list, err := store.List(t.Context())
				if damaged := (*clients.DamagedError)(nil); !errors.As(err, &damaged) || !slices.Equal(damaged.Names, []string{"bad"}) || len(list) != 1 {
					t.Errorf("List = %v, %v", list, err)
				}
				// What the error says to do helps.
				remove(t, store, "bad")
				wantNames(t, store, "good")
			})
		})
	}
}

func TestADamagedVersionIsMended(t *testing.T) {
	for _, damage := range []string{"", "x", "-5", "nan", "inf", "1e400", "9223372036854775807", "99999999999999999999"} {
		t.Run(damage, func(t *testing.T) {
			onEachRedis(t, func(t *testing.T, connect func() redis.UniversalClient) {
				client := connect()
				store := storeOf(client)
				a := add(t, store, "a", "1")
				client.HSet(t.Context(), prefix+"clients", "version", damage)
				fresh, _ := newSet(t, connect())
				reload(t, fresh)
				if !knows(fresh, a) {
					t.Error("the client is not known")
				}
				b := add(t, store, "b", "1")
				remove(t, store, "a")
				reload(t, fresh)
				if knows(fresh, a) || !knows(fresh, b) {
					t.Error("changes do not arrive")
				}
				// Who holds the clients stores them again.
				client.HSet(t.Context(), prefix+"clients", "version", damage)
				reload(t, fresh)
				remove(t, store, "b")
				reload(t, fresh)
				if knows(fresh, b) {
					t.Error("a removed client is known")
				}
			})
		})
	}
}

func TestARedisOfAnotherTypeIsAnError(t *testing.T) {
	onEachRedis(t, func(t *testing.T, connect func() redis.UniversalClient) {
		client := connect()
		key := add(t, storeOf(client), "a", "1")
		s, _ := newSet(t, connect())
		reload(t, s)
		client.Set(t.Context(), prefix+"clients", "x", 0)
		if err := s.Load(t.Context()); err == nil {
			t.Error("no error")
		}
		if !knows(s, key) {
			t.Error("the known client is cut off")
		}
	})
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
				if c, known := s.Find(stays); !known || c.Name != "stays" {
					t.Error("a client that stays is not known")
					return
				}
				if c, known := s.Find(seededKey); !known || c.Name != "seeded" {
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
	eventually(t, "the last key is known", func() bool { return knows(s, *last.Load()) })
	wantNames(t, store, "stays", "w0", "w1")
}
