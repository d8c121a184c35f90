package store

import (
	"context"
	"crypto/tls"
	"errors"
	"math"
	"net/url"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"hubspot-auth-proxy/tokens/secret"
)

// errRedisURL does not quote the URL, which may have a password. Reading from replicas is
// refused because replicas lag behind: an old record read from a replica could undo a newer
// one.
var errRedisURL = errors.New("not a Redis URL: give redis://, rediss:// or unix://, with ?master_name=…&addr=… for Sentinel or further ?addr=… for Cluster, and without options that go-redis does not know or that read from replicas")

// Open returns a client of the Redis at a URL. It does not connect yet. The URL names a
// server (redis://, rediss:// for TLS, unix://), a server behind Sentinel (?master_name=…,
// where the hosts are Sentinels), or a Cluster (further hosts as ?addr=…). The query may set
// timeouts and pool sizes, with the names of go-redis' ParseURL. The functions change modify
// the TLS configuration; they are not called if the URL does not use TLS. The error does not
// contain the URL.
func Open(address secret.Text, change ...func(*tls.Config)) (redis.UniversalClient, error) {
	u, err := url.Parse(address.Reveal())
	if err != nil || overflows(u.Query()) {
		return nil, errRedisURL
	}
	switch query := u.Query(); {
	case query.Has("master_name"):
		return openSentinel(address, change)
	case query.Has("addr"):
		return openCluster(address, change)
	default:
		return openServer(address, change)
	}
}

// overflows reports whether an option is a number for which go-redis panics, at once or when
// the client is first used.
func overflows(query url.Values) bool {
	for _, values := range query {
		for _, value := range values {
			if n, err := strconv.ParseInt(value, 10, 64); err == nil && n > math.MaxInt32 {
				return true
			}
		}
	}
	return false
}

func openServer(address secret.Text, change []func(*tls.Config)) (redis.UniversalClient, error) {
	options, err := redis.ParseURL(address.Reveal())
	if err != nil {
		return nil, errRedisURL
	}
	changeTLS(options.TLSConfig, change)
	return newClient(options), nil
}

// newClient returns a client of one server.
func newClient(options *redis.Options) redis.UniversalClient {
	tune(&options.DialTimeout, &options.DialerRetries, &options.ContextTimeoutEnabled)
	options.MaintNotificationsConfig, options.DisableIdentity = noNotifications(), true
	return redis.NewClient(options)
}

func openSentinel(address secret.Text, change []func(*tls.Config)) (redis.UniversalClient, error) {
	options, err := redis.ParseFailoverURL(address.Reveal())
	if err != nil || options.ReplicaOnly || options.RouteByLatency || options.RouteRandomly {
		return nil, errRedisURL
	}
	changeTLS(options.TLSConfig, change)
	tune(&options.DialTimeout, &options.DialerRetries, &options.ContextTimeoutEnabled)
	options.DisableIdentity = true
	return redis.NewFailoverClient(options), nil
}

func openCluster(address secret.Text, change []func(*tls.Config)) (redis.UniversalClient, error) {
	options, err := redis.ParseClusterURL(address.Reveal())
	if err != nil || options.ReadOnly || options.RouteByLatency || options.RouteRandomly {
		return nil, errRedisURL
	}
	changeTLS(options.TLSConfig, change)
	tune(&options.DialTimeout, &options.DialerRetries, &options.ContextTimeoutEnabled)
	options.MaintNotificationsConfig, options.DisableIdentity = noNotifications(), true
	return redis.NewClusterClient(options), nil
}

func changeTLS(config *tls.Config, change []func(*tls.Config)) {
	if config == nil {
		return
	}
	for _, f := range change {
		f(config)
	}
}

// tune sets the options that all three kinds of clients have in common.
func tune(dial *time.Duration, dials *int, contextTimeout *bool) {
	if *dial == 0 {
		*dial = 2 * time.Second // less than Timeout, which leaves time for a second try
	}
	if *dials == 0 {
		*dials = 1 // go-redis tries commands again too; both together would take too long
	}
	*contextTimeout = true
}

// noNotifications keeps the client from sending CLIENT MAINT_NOTIFICATIONS. Servers that do
// not know this command, and proxies in front of servers, may close the connection. Clients
// that use Sentinel never send the command.
func noNotifications() *maintnotifications.Config {
	return &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
}

// ErrEvicts means that Redis may delete records when its memory is full.
var ErrEvicts = errors.New("the Redis server may evict portals when its memory is full: set its maxmemory-policy to noeviction")

// Check returns nil if Redis answers and keeps all records, [ErrEvicts] if Redis may delete
// records, and an [*Error] if Redis does not answer within [Timeout].
func Check(ctx context.Context, client redis.UniversalClient) error {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	if err := client.Ping(ctx).Err(); err != nil {
		return Failure("ping Redis", err)
	}
	// INFO is used instead of CONFIG GET, which managed services forbid. If the server
	// does not report its policy, Check assumes that it keeps records.
	info := client.InfoMap(ctx, "memory").Val()
	if policy := info["Memory"]["maxmemory_policy"]; policy != "" && policy != "noeviction" {
		return ErrEvicts
	}
	return nil
}
