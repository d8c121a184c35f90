package store

import (
	"context"
	"crypto/tls"
	"errors"
	"math"
	"net"
	"net/url"
	"strconv"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"hubspot-auth-proxy/tokens/secret"
)

// errRedisURL does not quote the URL: it may hold a password. Replicas lag
// behind, so that a record read from one could undo what is known already.
var errRedisURL = errors.New("not a Redis URL: give redis://, rediss:// or unix://, with ?master_name=…&addr=… for Sentinel, or further ?addr=… for Cluster, and no options that go-redis does not know or that read from replicas")

// Open returns a client of the Redis that the URL names, without
// connecting to it yet: one server (redis://, rediss:// for TLS, unix://), one
// behind Sentinel (?master_name=…, the hosts being Sentinel's), or a Cluster
// (further hosts as ?addr=…). Timeouts and pool sizes can be set in the query
// as go-redis' ParseURL has it. Change changes how TLS is spoken, where the URL asks
// for TLS.
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

// overflows reports whether an option is a number for which go-redis panics,
// be it only at the first use of the client.
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
	tune(&options.DialTimeout, &options.DialerRetries, &options.ContextTimeoutEnabled)
	options.MaintNotificationsConfig, options.DisableIdentity = noNotifications(), true
	return redis.NewClient(options), nil
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

// tune sets what all three kinds of client have in common.
func tune(dial *time.Duration, dials *int, contextTimeout *bool) {
	if *dial == 0 {
		*dial = 2 * time.Second // within Timeout, so that a second try has a chance
	}
	if *dials == 0 {
		*dials = 1 // commands are tried again as it is, and nobody is to wait for both
	}
	*contextTimeout = true
}

// noNotifications keeps the client from sending CLIENT MAINT_NOTIFICATIONS:
// servers that do not know it, and proxies before them, may close the
// connection over it. Clients of Sentinel never send it.
func noNotifications() *maintnotifications.Config {
	return &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
}

// Embedded returns a client of a Redis within this process, and what ends
// it. It opens no port, asks for no password, and forgets all at its end.
func Embedded() (client redis.UniversalClient, end func()) {
	server := miniredis.NewMiniRedis()
	options := &redis.Options{
		Addr:   embeddedAddr,
		Dialer: func(context.Context, string, string) (net.Conn, error) { return server.Dial() },
	}
	tune(&options.DialTimeout, &options.DialerRetries, &options.ContextTimeoutEnabled)
	options.MaintNotificationsConfig, options.DisableIdentity = noNotifications(), true
	client = redis.NewClient(options)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		letTimePass(server, stop)
	}()
	return client, func() {
		close(stop)
		<-stopped
		_ = client.Close()
		server.Close()
	}
}

// embeddedAddr is the address that clients of an embedded Redis have: nothing
// listens there.
const embeddedAddr = "embedded"

// isEmbedded reports whether the client is one of an embedded Redis, whose data
// no other process can write back.
func isEmbedded(client redis.UniversalClient) bool {
	one, ok := client.(*redis.Client)
	return ok && one.Options().Addr == embeddedAddr
}

// letTimePass makes keys expire: miniredis' time stands still otherwise.
func letTimePass(server *miniredis.Miniredis, stop <-chan struct{}) {
	const step = 250 * time.Millisecond
	ticker := time.NewTicker(step)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			server.FastForward(step)
		case <-stop:
			return
		}
	}
}

// ErrEvicts is a warning: Redis may throw records away when its memory is full.
var ErrEvicts = errors.New("the Redis server may evict portals when its memory is full: set its maxmemory-policy to noeviction")

// Check returns nil if Redis answers and keeps what it is given,
// [ErrEvicts] if it may not keep it, and another error if it does not answer.
func Check(ctx context.Context, client redis.UniversalClient) error {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	if err := client.Ping(ctx).Err(); err != nil {
		return Failure("ping Redis", err)
	}
	// Not CONFIG GET, which managed services forbid. A server that does not
	// tell is not accused.
	info := client.InfoMap(ctx, "memory").Val()
	if policy := info["Memory"]["maxmemory_policy"]; policy != "" && policy != "noeviction" {
		return ErrEvicts
	}
	return nil
}
