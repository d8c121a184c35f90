package clients_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"hubspot-auth-proxy/proxy/clients"
	"hubspot-auth-proxy/tokens/redistest"
	"hubspot-auth-proxy/tokens/secret"
	"hubspot-auth-proxy/tokens/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const prefix = "hubspot:"

// onEachRedis runs the test with the embedded Redis, and with a real one if
// that is installed. Each call of connect is another process.
func onEachRedis(t *testing.T, test func(t *testing.T, connect func() redis.UniversalClient)) {
	t.Parallel()
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		client, end := store.Embedded()
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
	client, err := store.Open(secret.New(server.URL()))
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
	return s.Find(key) != nil
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
