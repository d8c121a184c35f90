package tokens_test

import (
	"context"
	"errors"
	"flag"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspot"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/redistest"
	"hubspot-auth-proxy/tokens/secret"
	"hubspot-auth-proxy/tokens/store"
	"hubspot-auth-proxy/tokens/store/statefile"
	"hubspot-auth-proxy/tokens/testkit"
)

func TestMain(m *testing.M) {
	if os.Getenv(writerState) != "" {
		beWriter()
		return
	}
	if os.Getenv(childRedis) != "" {
		beChild()
		return
	}
	redis.SetLogger(&logging.VoidLogger{}) // as in the program
	// Most tests wait most of the time, so more of them run at once than there are CPUs.
	_ = flag.Set("test.parallel", "8")
	goleak.VerifyTestMain(m)
}

const (
	portalID  = "62515"
	recordKey = "hubspot:portal:{62515}"
	lockKey   = "hubspot:lock:{62515}"
	tokenLife = 1800 * time.Second // the fake's default
)

// clock is a clock that advances only when the test says so.
type clock struct {
	mu   sync.Mutex
	time time.Time
	step time.Duration // added at each read
}

// newClock returns a clock that is truncated to milliseconds, as times in Redis are.
func newClock() *clock { return &clock{time: time.Now().Truncate(time.Millisecond)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.time = c.time.Add(c.step)
	return c.time
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.time = c.time.Add(d)
}

// connector returns a new client of the test's Redis.
type connector func(t *testing.T) redis.UniversalClient

// onEachRedis runs the test with the embedded Redis, in memory and in a file, and
// with a real one if that is installed.
func onEachRedis(t *testing.T, test func(t *testing.T, connect connector)) {
	onEachFullRedis(t, test)
	t.Run("file", func(t *testing.T) {
		t.Parallel()
		client := embeddedIn(t, statePath(t))
		test(t, func(*testing.T) redis.UniversalClient { return client })
	})
}

// onEachFullRedis is onEachRedis for tests that send commands which the program does
// not use. A Redis that keeps its data in a file refuses them.
func onEachFullRedis(t *testing.T, test func(t *testing.T, connect connector)) {
	t.Parallel()
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		client, end := store.Embedded()
		t.Cleanup(end)
		test(t, func(*testing.T) redis.UniversalClient { return client })
	})
	t.Run("real", func(t *testing.T) {
		t.Parallel()
		server := redistest.Start(t)
		test(t, func(t *testing.T) redis.UniversalClient { return dial(t, server) })
	})
}

// statePath returns a path for a state file, in a folder that only this user may
// write to.
func statePath(tb testing.TB) string {
	tb.Helper()
	folder := tb.TempDir()
	if err := os.Chmod(folder, 0o700); err != nil {
		tb.Fatal(err)
	}
	return filepath.Join(folder, "state")
}

// embeddedIn returns a client of an embedded Redis that keeps its data in a file,
// until the test ends.
func embeddedIn(tb testing.TB, path string) redis.UniversalClient {
	tb.Helper()
	client, end, err := store.EmbeddedIn(tb.Context(), path, statefile.Options{Holder: "test", Waste: 2 << 10})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := end(); err != nil {
			tb.Error(err)
		}
	})
	return client
}

// fast makes a client try again sooner than the program's, so that tests wait less for errors of Redis.
const fast = "?max_retry_backoff=16ms"

// dial returns a client of the server as the program makes it, except that it is fast.
func dial(t *testing.T, server *redistest.Server) redis.UniversalClient {
	t.Helper()
	return open(t, server.URL()+fast)
}

// open returns a client of the Redis at the URL as the program makes it.
func open(t *testing.T, address string) redis.UniversalClient {
	t.Helper()
	client, err := store.Open(secret.New(address))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func newHub(t *testing.T) *hubspottest.Server {
	t.Helper()
	hub := hubspottest.NewServer()
	t.Cleanup(hub.Close)
	return hub
}

// newApp returns the fake HubSpot's app. wrap wraps its transport; nil means that nothing is wrapped.
func newApp(t *testing.T, hub *hubspottest.Server, wrap func(http.RoundTripper) http.RoundTripper) *hubspot.App {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	var wrapped http.RoundTripper = transport
	if wrap != nil {
		wrapped = wrap(transport)
	}
	return &hubspot.App{
		ClientID:     hubspottest.ClientID,
		ClientSecret: secret.New(hubspottest.ClientSecret),
		TokenURL:     hub.TokenURL(),
		Client:       hubspot.NewClient(wrapped, 15*time.Second),
	}
}

// newSource returns a source with the options. Options that are not set have the usual values. When
// the test ends, the source is closed and its log is searched for secrets.
func newSource(t *testing.T, hub *hubspottest.Server, options tokens.Options) *tokens.Source {
	t.Helper()
	if options.Prefix == "" {
		options.Prefix = "hubspot:"
	}
	if options.App == nil {
		options.App = newApp(t, hub, nil)
	}
	if options.RefreshAhead == 0 {
		options.RefreshAhead = 5 * time.Minute
	}
	var log logBuffer
	options.Log = zap.New(zapcore.NewCore(
		zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), &log, zap.DebugLevel))
	s := tokens.NewSource(options)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = s.Close(ctx) // fails if Redis is still unreachable; tests of Close check the error
		log.check(t)
	})
	return s
}

// logBuffer keeps all log lines.
type logBuffer struct{ testkit.Output }

func (b *logBuffer) check(t *testing.T) {
	t.Helper()
	text := b.String()
	if strings.Contains(text, hubspottest.Canary) {
		t.Errorf("the log has a secret:\n%s", text)
	}
	if t.Failed() {
		t.Logf("the log of a source:\n%s", text)
	}
}

// listening waits until n sources get messages. Because the clock does not advance, a source would
// not make up for messages that it has missed.
func listening(t *testing.T, client redis.UniversalClient, sources int64) {
	t.Helper()
	testkit.Eventually(t, "the sources get events", func() bool {
		channel := eventsOf(t, client)
		return redistest.Admin(t, client).(*redis.Client).PubSubNumSub(t.Context(), channel).Val()[channel] >= sources
	})
}

// eventsOf returns the name of the records' channel.
func eventsOf(t *testing.T, client redis.UniversalClient) string {
	t.Helper()
	return "hubspot:events:" + client.Get(t.Context(), "hubspot:epoch").Val()
}

// seed connects the portal at HubSpot and seeds its refresh token.
func seed(t *testing.T, s *tokens.Source, hub *hubspottest.Server, portal string) (refreshToken string) {
	t.Helper()
	refreshToken = hub.Connect(portal)
	put(t, s, portal, tokens.OAuth, refreshToken)
	return refreshToken
}

// put seeds a value that was not seeded before.
func put(t *testing.T, s *tokens.Source, portal string, kind tokens.Kind, value string) {
	t.Helper()
	stored, err := s.Seed(t.Context(), tokens.Seed{Portal: portal, Kind: kind, Secret: secret.New(value)})
	if err != nil || !stored {
		t.Fatalf("Seed = %t, %v", stored, err)
	}
}

// get returns the portal's credential.
func get(t *testing.T, s *tokens.Source, portal string) *tokens.Credential {
	t.Helper()
	credential, err := s.Credential(t.Context(), portal)
	if err != nil {
		t.Fatalf("Credential: %v", err)
	}
	return credential
}

// hasOther reports whether the source has a credential other than old.
func hasOther(s *tokens.Source, old *tokens.Credential) bool {
	credential, err := s.Credential(context.Background(), old.Portal)
	return err == nil && !credential.Secret.Equal(old.Secret)
}

// answers reports whether the source answers with an error that matches target, as isError does.
func answers(t *testing.T, s *tokens.Source, portal string, target error) bool {
	t.Helper()
	_, err := s.Credential(t.Context(), portal)
	return isError(t, err, target)
}

// isError reports whether err is the target or has its type. It fails the test if the text of err
// has a secret.
func isError(t *testing.T, err, target error) bool {
	t.Helper()
	if err != nil && strings.Contains(err.Error(), hubspottest.Canary) {
		t.Errorf("the error has a secret: %v", err)
	}
	switch target.(type) {
	case *tokens.EndedError:
		_, is := errors.AsType[*tokens.EndedError](err)
		return is
	case *tokens.UnavailableError:
		unavailable, is := errors.AsType[*tokens.UnavailableError](err)
		return is && unavailable.RetryAfter >= time.Second
	}
	return errors.Is(err, target)
}

// untilCalls waits until n token calls were made for the portal.
func untilCalls(t *testing.T, hub *hubspottest.Server, calls int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := hub.Until(ctx, func() bool { return hub.TokenCalls(portalID) >= calls }); err != nil {
		t.Fatalf("%d token calls, want %d: %v", hub.TokenCalls(portalID), calls, err)
	}
}

func wantCalls(t *testing.T, hub *hubspottest.Server, want int) {
	t.Helper()
	if got := hub.TokenCalls(portalID); got != want {
		t.Errorf("%d token calls, want %d", got, want)
	}
	if violations := hub.Violations(); len(violations) > 0 {
		t.Errorf("%v", violations)
	}
}

// field returns a field of the portal's record in Redis.
func field(t *testing.T, client redis.UniversalClient, name string) string {
	t.Helper()
	value, err := client.HGet(t.Context(), recordKey, name).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		t.Fatal(err)
	}
	return value
}

// result is the result of a call in another goroutine.
type result struct {
	credential *tokens.Credential
	err        error
}

// together makes n calls at the same time and returns their results.
func together(n int, call func() (*tokens.Credential, error)) []result {
	results := make([]result, n)
	begin := make(chan struct{})
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			<-begin
			results[i].credential, results[i].err = call()
		})
	}
	close(begin)
	all.Wait()
	return results
}

// later makes a call in another goroutine.
func later(call func() (*tokens.Credential, error)) <-chan result {
	done := make(chan result, 1)
	go func() {
		credential, err := call()
		done <- result{credential, err}
	}()
	return done
}

// await waits for the result of a call that later has made.
func await(t *testing.T, done <-chan result) result {
	t.Helper()
	select {
	case r := <-done:
		return r
	case <-time.After(20 * time.Second):
		t.Fatal("the call does not return")
		return result{}
	}
}

// silently sets fields of the portal's record without a message, as if the message had been lost.
func silently(t *testing.T, client redis.UniversalClient, fields ...any) {
	t.Helper()
	ctx := t.Context()
	// At once, as a write is: a generation says what its record is.
	_, err := redistest.Admin(t, client).TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.HIncrBy(ctx, recordKey, "generation", 1)
		return p.HSet(ctx, recordKey, fields...).Err()
	})
	if err != nil {
		t.Fatal(err)
	}
}
