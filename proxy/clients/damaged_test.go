package clients_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap/zapcore"

	"hubspot-auth-proxy/proxy/clients"
	"hubspot-auth-proxy/tokens/secret"
	"hubspot-auth-proxy/tokens/testkit"
)

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
				if logged := logs.FilterLevelExact(zapcore.ErrorLevel).All(); len(logged) == 0 || !strings.Contains(fmt.Sprint(logged[0].ContextMap()), `"bad"`) {
					t.Errorf("the log does not name it: %v", logged)
				}
				// It does not keep others from being cut off.
				remove(t, store, "leaver")
				testkit.Eventually(t, "a removed client is cut off", func() bool { return !knows(s, leaver) })
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
