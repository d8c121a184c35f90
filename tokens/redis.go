package tokens

import (
	"context"
	"errors"
	"net"
	"net/url"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"hubspot-auth-proxy/tokens/secret"
)

// errRedisURL does not quote the URL: it may hold a password.
var errRedisURL = errors.New("not a Redis URL: give redis://, rediss:// or unix://, with ?master_name=…&addr=… for Sentinel, or further ?addr=… for Cluster, and no options that go-redis does not know")

// OpenRedis returns a client of the Redis that the URL names, without
// connecting to it yet: one server (redis://, rediss:// for TLS, unix://), one
// behind Sentinel (?master_name=…, the hosts being Sentinel's), or a Cluster
// (further hosts as ?addr=…). Timeouts and pool sizes can be set in the query
// as go-redis' ParseURL has it.
func OpenRedis(address secret.Text) (redis.UniversalClient, error) {
	u, err := url.Parse(address.Reveal())
	if err != nil {
		return nil, errRedisURL
	}
	switch query := u.Query(); {
	case query.Has("master_name"):
		return openSentinel(address)
	case query.Has("addr"):
		return openCluster(address)
	default:
		return openServer(address)
	}
}

func openServer(address secret.Text) (redis.UniversalClient, error) {
	options, err := redis.ParseURL(address.Reveal())
	if err != nil {
		return nil, errRedisURL
	}
	tune(&options.DialTimeout, &options.ContextTimeoutEnabled)
	options.MaintNotificationsConfig = noNotifications()
	return redis.NewClient(options), nil
}

func openSentinel(address secret.Text) (redis.UniversalClient, error) {
	options, err := redis.ParseFailoverURL(address.Reveal())
	if err != nil {
		return nil, errRedisURL
	}
	tune(&options.DialTimeout, &options.ContextTimeoutEnabled)
	return redis.NewFailoverClient(options), nil
}

func openCluster(address secret.Text) (redis.UniversalClient, error) {
	options, err := redis.ParseClusterURL(address.Reveal())
	if err != nil {
		return nil, errRedisURL
	}
	tune(&options.DialTimeout, &options.ContextTimeoutEnabled)
	options.MaintNotificationsConfig = noNotifications()
	return redis.NewClusterClient(options), nil
}

// tune sets what all three kinds of client have in common.
func tune(dial *time.Duration, contextTimeout *bool) {
	if *dial == 0 {
		*dial = 2 * time.Second // within redisTimeout, so that a second try has a chance
	}
	*contextTimeout = true
}

// noNotifications keeps the client from sending CLIENT MAINT_NOTIFICATIONS:
// servers that do not know it, and proxies before them, may close the
// connection over it. Clients of Sentinel never send it.
func noNotifications() *maintnotifications.Config {
	return &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
}

// EmbeddedRedis returns a client of a Redis within this process, and what ends
// it. It opens no port, asks for no password, and forgets all at its end.
func EmbeddedRedis() (client redis.UniversalClient, end func()) {
	server := miniredis.NewMiniRedis()
	options := &redis.Options{
		Dialer: func(context.Context, string, string) (net.Conn, error) { return server.Dial() },
	}
	tune(&options.DialTimeout, &options.ContextTimeoutEnabled)
	options.MaintNotificationsConfig = noNotifications()
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
var ErrEvicts = errors.New("Redis may evict portals when its memory is full: set its maxmemory-policy to noeviction")

// CheckRedis returns nil if Redis answers and keeps what it is given,
// [ErrEvicts] if it may not keep it, and another error if it does not answer.
func CheckRedis(ctx context.Context, client redis.UniversalClient) error {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	if err := client.Ping(ctx).Err(); err != nil {
		return err
	}
	// Not CONFIG GET, which managed services forbid. A server that does not
	// tell is not accused.
	info := client.InfoMap(ctx, "memory").Val()
	if policy := info["Memory"]["maxmemory_policy"]; policy != "" && policy != "noeviction" {
		return ErrEvicts
	}
	return nil
}
