package tokens_test

import (
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/redistest"
	"hubspot-auth-proxy/tokens/secret"
	"hubspot-auth-proxy/tokens/store"
	"hubspot-auth-proxy/tokens/testkit"
)

func TestOpenRedisChoosesTheClientByTheURL(t *testing.T) {
	t.Parallel()
	isServer := func(network, addr string, tls bool) func(redis.UniversalClient) bool {
		return func(c redis.UniversalClient) bool {
			client, ok := c.(*redis.Client)
			return ok && client.Options().Network == network && client.Options().Addr == addr && (client.Options().TLSConfig != nil) == tls
		}
	}
	isCluster := func(addrs string, tls bool) func(redis.UniversalClient) bool {
		return func(c redis.UniversalClient) bool {
			client, ok := c.(*redis.ClusterClient)
			return ok && strings.Join(client.Options().Addrs, " ") == addrs && (client.Options().TLSConfig != nil) == tls
		}
	}
	for name, tt := range map[string]struct {
		url string
		is  func(redis.UniversalClient) bool
	}{
		"one server":       {"redis://h:7", isServer("tcp", "h:7", false)},
		"without a port":   {"redis://h", isServer("tcp", "h:6379", false)},
		"TLS":              {"rediss://u:p@h:7/3", isServer("tcp", "h:7", true)},
		"a Unix socket":    {"unix:///run/redis.sock", isServer("unix", "/run/redis.sock", false)},
		"Sentinel":         {"redis://h:7?master_name=m&addr=g:8", isServer("tcp", "FailoverClient", false)},
		"Sentinel and TLS": {"rediss://h:7?master_name=m", isServer("tcp", "FailoverClient", true)},
		"Cluster":          {"redis://h:7?addr=g:8&addr=i:9", isCluster("h:7 g:8 i:9", false)},
		"Cluster and TLS":  {"rediss://h:7?addr=g:8", isCluster("h:7 g:8", true)},
	} {
		t.Run(name, func(t *testing.T) {
			client, err := store.Open(secret.New(tt.url))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = client.Close() })
			if !tt.is(client) {
				t.Errorf("got %T %v", client, client)
			}
		})
	}
}

func TestTheErrorOfAnInvalidRedisURLDoesNotQuoteIt(t *testing.T) {
	t.Parallel()
	const canary = hubspottest.Canary
	for name, address := range map[string]string{
		"empty":                      "",
		"no scheme":                  canary + ":6379",
		"another scheme":             "http://:" + canary + "@h",
		"a damaged escape":           "redis://:" + canary + "%zz@h",
		"a damaged port":             "redis://:x@h:" + canary,
		"a damaged database":         "redis://:x@h/" + canary,
		"an unknown option":          "redis://h?" + canary + "=1",
		"a damaged option":           "redis://h?dial_timeout=" + canary,
		"Sentinel, another scheme":   "unix:///" + canary + "?master_name=m",
		"Sentinel, damaged address":  "redis://h?master_name=m&addr=" + canary,
		"Sentinel, from replicas":    "redis://" + canary + "?master_name=m&replica_only=true",
		"Sentinel, by latency":       "redis://" + canary + "?master_name=m&route_by_latency=true",
		"Sentinel, at random":        "redis://" + canary + "?master_name=m&route_randomly=true",
		"Cluster, another scheme":    "unix:///" + canary + "?addr=h:1",
		"Cluster, damaged address":   "redis://h?addr=" + canary,
		"Cluster, from replicas":     "redis://" + canary + "?addr=h:1&read_only=true",
		"Cluster, by latency":        "redis://" + canary + "?addr=h:1&route_by_latency=true",
		"an enormous pool":           "redis://" + canary + "?pool_size=99999999999",
		"Sentinel, an enormous pool": "redis://" + canary + "?master_name=m&pool_size=99999999999",
		"Cluster, an enormous pool":  "redis://" + canary + "?addr=h:1&pool_size=99999999999",
	} {
		t.Run(name, func(t *testing.T) {
			client, err := store.Open(secret.New(address))
			if err == nil {
				_ = client.Close()
				t.Fatal("no error")
			}
			if _, is := errors.AsType[*url.Error](err); is || strings.Contains(err.Error(), canary) {
				t.Errorf("it quotes the URL: %v", err)
			}
		})
	}
}

func TestCheckReportsWhetherRedisMayEvictRecords(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		options []redistest.Option
		want    error
	}{
		"noeviction": {nil, nil},
		"evicts":     {[]redistest.Option{redistest.With("--maxmemory-policy", "allkeys-lru")}, store.ErrEvicts},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t, tt.options...)
			client := dial(t, server)
			if err := store.Check(t.Context(), client); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			server.Kill()
			if err := store.Check(t.Context(), client); err == nil || errors.Is(err, store.ErrEvicts) {
				t.Errorf("of a killed one: %v", err)
			}
		})
	}
}

func TestKeysExpireInTheEmbeddedRedis(t *testing.T) {
	t.Parallel()
	client, end := store.Embedded()
	t.Cleanup(end)
	if err := store.Check(t.Context(), client); err != nil {
		t.Error(err)
	}
	if err := client.Set(t.Context(), "k", "v", time.Second).Err(); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the key expires", func() bool { return client.Exists(t.Context(), "k").Val() == 0 })
}

// works checks that two sources share portals in the Redis at the URL: one seeds, the other renews,
// and both get messages.
func works(t *testing.T, address string) {
	t.Helper()
	hub, now := newHub(t), newClock()
	a := newSource(t, hub, tokens.Options{Redis: open(t, address), Now: now.now})
	b := newSource(t, hub, tokens.Options{Redis: open(t, address), Now: now.now})
	hub.SetToken(hubspottest.TokenBehaviour{Rotate: true})
	for _, id := range []string{"1", "2", "3", portalID} { // several slots of a Cluster
		seed(t, a, hub, id)
		first := get(t, b, id)
		if !get(t, a, id).Secret.Equal(first.Secret) {
			t.Error("the two have different tokens")
		}
		renewed, err := a.Renew(t.Context(), first, true)
		if err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, "the event arrives", func() bool { return get(t, b, id).Secret.Equal(renewed.Secret) })
		if err := b.Remove(t.Context(), id, "test"); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, "the removal arrives", func() bool { return answers(t, a, id, tokens.ErrNotConnected) })
	}
	if n := hub.TokenCallsTotal(); n != 8 {
		t.Errorf("%d token calls, want 8", n)
	}
}

func TestASourceWorksWithAUnixSocket(t *testing.T) {
	t.Parallel()
	socket := t.TempDir() + "/s"
	redistest.Start(t, redistest.With("--unixsocket", socket))
	works(t, "unix://"+socket)
}

func TestASourceWorksWithSentinel(t *testing.T) {
	t.Parallel()
	master := redistest.Start(t)
	sentinel := redistest.Start(t, redistest.Sentinel("sentinel monitor m "+strings.Replace(master.Addr, ":", " ", 1)+" 1"))
	works(t, sentinel.URL()+"?master_name=m")
}

func TestASourceWorksWithACluster(t *testing.T) {
	t.Parallel()
	nodes := redistest.StartCluster(t)
	address := nodes[0].URL() + "?addr=" + nodes[1].Addr
	works(t, address)
	comparesKeys(t, func(t *testing.T) redis.UniversalClient { return open(t, address) })
}
