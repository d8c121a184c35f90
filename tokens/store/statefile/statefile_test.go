//go:build unix

package statefile_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"go.uber.org/goleak"

	"hubspot-auth-proxy/tokens/store/statefile"
	"hubspot-auth-proxy/tokens/testkit"
)

func TestMain(m *testing.M) {
	syscall.Umask(0o022)
	goleak.VerifyTestMain(m)
}

// statePath returns a path in an empty folder of this user's own.
func statePath(tb testing.TB) string {
	tb.Helper()
	folder, err := os.MkdirTemp("", "state")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(folder) })
	return filepath.Join(folder, "state")
}

// open opens the file, and closes it with the test.
func open(tb testing.TB, path string) (*statefile.Server, *redis.Client) {
	tb.Helper()
	server, err := statefile.Open(path, statefile.Options{Holder: "test", Waste: 4 << 10})
	if err != nil {
		tb.Fatal(err)
	}
	client := redis.NewClient(&redis.Options{
		Dialer:                   func(context.Context, string, string) (net.Conn, error) { return server.Dial() },
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}, DisableIdentity: true,
		MaxRetries: -1,
	})
	return server, client
}

func closeBoth(tb testing.TB, server *statefile.Server, client *redis.Client) {
	tb.Helper()
	_ = client.Close()
	if err := server.Close(); err != nil {
		tb.Error(err)
	}
}

func content(tb testing.TB, path string) string {
	tb.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return string(text)
}

func TestARestartKeepsAllKeysAndTheirExpiry(t *testing.T) {
	t.Parallel()
	path := statePath(t)
	server, client := open(t, path)
	odd := "\x00\xff \"quoted\"\r\n…"
	ctx := t.Context()
	for _, err := range []error{
		client.HSet(ctx, "record", "field", odd, odd, "", "other", "x").Err(),
		client.HDel(ctx, "record", "other").Err(),
		client.Set(ctx, odd, odd, 0).Err(),
		client.SetNX(ctx, "nonce", "", time.Hour).Err(),
		client.Set(ctx, "gone", "x", 0).Err(),
		client.Del(ctx, "gone").Err(),
		client.Set(ctx, "short", "x", 50*time.Millisecond).Err(),
		client.MSet(ctx, "a", "1", "b", "2").Err(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	closeBoth(t, server, client)
	end := time.Now().Add(50 * time.Millisecond) // short expires while no process has the file open
	testkit.Eventually(t, "short has expired", func() bool { return time.Now().After(end) })

	server, client = open(t, path)
	defer closeBoth(t, server, client)
	keys, _, err := client.Scan(ctx, 0, "*", 100).Result()
	if err != nil || len(keys) != 5 {
		t.Errorf("keys %q, %v", keys, err)
	}
	if fields := client.HGetAll(ctx, "record").Val(); len(fields) != 2 || fields["field"] != odd || fields[odd] != "" {
		t.Errorf("record %q", fields)
	}
	if value := client.Get(ctx, odd).Val(); value != odd {
		t.Errorf("string %q", value)
	}
	if left := client.TTL(ctx, "nonce").Val(); left < 59*time.Minute || left > time.Hour {
		t.Errorf("the nonce expires in %v", left)
	}
}

func TestAKeyThatDoesNotExpireIsInTheFileBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	path := statePath(t)
	server, client := open(t, path)
	defer closeBoth(t, server, client)
	script := redis.NewScript(`redis.call('HSET', KEYS[1], 'a', ARGV[1]); redis.call('SET', KEYS[2], ARGV[1], 'PX', 60000); return 1`)
	for i := range 50 {
		value := fmt.Sprintf("value-%d", i)
		if err := script.Run(t.Context(), client, []string{"record", "nonce"}, value).Err(); err != nil {
			t.Fatal(err)
		}
		if now := content(t, path); !strings.Contains(now, `"record" "a" "`+value+`"`) {
			t.Fatalf("the file lacks %s", value)
		}
	}
	testkit.Within(t, time.Second, "the key that expires is written", func() bool { return strings.Contains(content(t, path), `"nonce" "value-49"`) })
}

func TestKeysExpireWhileTheServerRuns(t *testing.T) {
	t.Parallel()
	server, client := open(t, statePath(t))
	defer closeBoth(t, server, client)
	if err := client.Set(t.Context(), "nonce", "x", 300*time.Millisecond).Err(); err != nil {
		t.Fatal(err)
	}
	testkit.Within(t, 5*time.Second, "the key is gone", func() bool { return client.Exists(t.Context(), "nonce").Val() == 0 })
}

func TestTheFileStaysShort(t *testing.T) {
	t.Parallel()
	path := statePath(t)
	server, client := open(t, path)
	defer closeBoth(t, server, client)
	value := strings.Repeat("x", 1000)
	for i := range 200 {
		if err := client.HSet(t.Context(), "record", "field", value, "number", i).Err(); err != nil {
			t.Fatal(err)
		}
	}
	testkit.Eventually(t, "the file is written anew", func() bool { return len(content(t, path)) < 8<<10 })
	if last := content(t, path); !strings.Contains(last, `"number" "199"`) {
		t.Errorf("the file is %s", last)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("its mode is %v, %v", info.Mode(), err)
	}
}

func TestAReplacedSecretIsNotInTheFileAfterACloseOrAKill(t *testing.T) {
	t.Parallel()
	path := statePath(t)
	server, client := open(t, path)
	for _, secret := range []string{"first", "second", "third"} {
		if err := client.Set(t.Context(), "record", secret, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	killed := content(t, path)
	closeBoth(t, server, client)
	if text := content(t, path); strings.Contains(text, "first") || !strings.Contains(text, "third") {
		t.Errorf("after a close: %s", text)
	}
	if err := os.WriteFile(path, []byte(killed), 0o600); err != nil {
		t.Fatal(err)
	}
	server, client = open(t, path)
	defer closeBoth(t, server, client)
	testkit.Eventually(t, "the first secret is gone", func() bool { return !strings.Contains(content(t, path), "first") })
}

// Nothing else makes the file be written anew: each key is in the file only once.
func TestAnExpiredKeyDoesNotStayInTheFile(t *testing.T) {
	t.Parallel()
	path := statePath(t)
	server, client := open(t, path)
	for _, err := range []error{
		client.Set(t.Context(), "record", "x", 0).Err(),
		client.Set(t.Context(), "nonce", "x", time.Second).Err(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	testkit.Eventually(t, "the nonce is written", func() bool { return strings.Contains(content(t, path), `"nonce"`) })
	testkit.Eventually(t, "the nonce has expired", func() bool { return client.Exists(t.Context(), "nonce").Val() == 0 })
	closeBoth(t, server, client)
	if text := content(t, path); strings.Contains(text, `"nonce"`) || !strings.Contains(text, `"record"`) {
		t.Errorf("the file is %s", text)
	}
}

func TestTheNextFileOfAKilledProcessIsRemoved(t *testing.T) {
	t.Parallel()
	path := statePath(t)
	server, client := open(t, path)
	closeBoth(t, server, client)
	if err := os.WriteFile(path+".next", []byte(content(t, path)), 0o600); err != nil {
		t.Fatal(err)
	}
	server, client = open(t, path)
	defer closeBoth(t, server, client)
	if _, err := os.Lstat(path + ".next"); !os.IsNotExist(err) {
		t.Errorf("the next file is still there: %v", err)
	}
}

func TestCommandsThatTheServerCannotFollowAreRefused(t *testing.T) {
	t.Parallel()
	server, client := open(t, statePath(t))
	defer closeBoth(t, server, client)
	for _, command := range []string{"FLUSHALL", "MULTI", "SELECT 1", "BLPOP list 0", "RPUSH list x", "RENAME a b"} {
		var args []any
		for word := range strings.FieldsSeq(command) {
			args = append(args, word)
		}
		if err := client.Do(t.Context(), args...).Err(); err == nil || !strings.HasPrefix(err.Error(), "ERR unknown command") {
			t.Errorf("%s: %v", command, err)
		}
		script := redis.NewScript(`return redis.pcall(unpack(ARGV))`)
		if err := script.Run(t.Context(), client, nil, args...).Err(); err == nil {
			t.Errorf("%s is run in a script", command)
		}
	}
}

func TestMessagesArrive(t *testing.T) {
	t.Parallel()
	path := statePath(t)
	server, client := open(t, path)
	defer closeBoth(t, server, client)
	if err := server.Listen(); err != nil {
		t.Fatal(err)
	}
	other := redis.NewClient(&redis.Options{Network: "unix", Addr: statefile.Socket(path), DisableIdentity: true})
	defer other.Close()
	events := client.Subscribe(t.Context(), "events")
	defer events.Close()
	if _, err := events.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n, err := other.Publish(t.Context(), "events", "62515").Result(); err != nil || n != 1 {
		t.Fatalf("%d, %v", n, err)
	}
	if message, err := events.ReceiveMessage(t.Context()); err != nil || message.Payload != "62515" {
		t.Errorf("%v, %v", message, err)
	}
}

// A command that is stopped with Ctrl-Z must not stop the proxy.
func TestASubscriberThatStopsReadingStopsNobody(t *testing.T) {
	t.Parallel()
	path := statePath(t)
	server, client := open(t, path)
	defer closeBoth(t, server, client)
	if err := server.Listen(); err != nil {
		t.Fatal(err)
	}
	stopped, err := net.Dial("unix", statefile.Socket(path))
	if err != nil {
		t.Fatal(err)
	}
	defer stopped.Close()
	if _, err := fmt.Fprint(stopped, "*2\r\n$9\r\nSUBSCRIBE\r\n$6\r\nevents\r\n"); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "it has subscribed", func() bool { return client.Publish(t.Context(), "events", "x").Val() == 1 })
	payload := strings.Repeat("x", 64<<10)
	testkit.Eventually(t, "it is dropped", func() bool {
		n, err := client.Publish(t.Context(), "events", payload).Result()
		if err != nil {
			t.Fatal(err)
		}
		return n == 0
	})
}
