package soak

import (
	"context"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"hubspot-auth-proxy/proxy"
	"hubspot-auth-proxy/proxy/clients"
	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspot"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/seal"
	"hubspot-auth-proxy/tokens/secret"
	"hubspot-auth-proxy/tokens/store"
)

const (
	prefix         = "hubspot:"
	retryBodyLimit = 64 << 10
	tokenTimeout   = 15 * time.Second
)

// member is one proxy of the fleet, wired as in the program.
type member struct {
	addr     string
	redis    redis.UniversalClient
	source   *tokens.Source
	callers  *clients.Set
	proxy    *proxy.Proxy
	server   *http.Server
	metrics  *prometheus.Registry
	stopping atomic.Bool
}

// fleet is the set of members that get requests. It is safe for concurrent use.
type fleet struct {
	mu      sync.Mutex
	members []*member
}

func (f *fleet) add(m *member) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.members = append(f.members, m)
}

func (f *fleet) remove(m *member) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.members = slices.DeleteFunc(slices.Clone(f.members), func(other *member) bool { return other == m })
}

func (f *fleet) all() []*member {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.members)
}

func (f *fleet) any(dice *rand.Rand) *member {
	members := f.all()
	return members[dice.IntN(len(members))]
}

// startProxy starts a proxy and returns when it is ready.
func (w *world) startProxy() *member {
	m := &member{redis: w.openRedis(), metrics: prometheus.NewRegistry()}
	log := w.logs.logger()
	m.source = tokens.NewSource(tokens.Options{
		Redis: m.redis, Prefix: prefix, Keys: w.ring, RefreshAhead: 5 * time.Minute, Settle: 5 * time.Second, Log: log, Metrics: m.metrics,
		App: &hubspot.App{
			ClientID: hubspottest.ClientID, ClientSecret: secret.New(hubspottest.ClientSecret), TokenURL: w.hub.TokenURL(),
			Client: hubspot.NewClient(w.calls, tokenTimeout),
		},
	})
	m.callers = clients.NewSet(clients.Store{Redis: m.redis, Prefix: prefix}, log)
	w.eventually("Redis answers a new proxy", func() bool {
		return store.Check(context.Background(), m.redis) == nil && m.callers.Load(context.Background()) == nil
	})
	upstream, _ := url.Parse(w.hub.URL)
	m.proxy = proxy.New(proxy.Options{
		Credentials: m.source, Upstream: upstream, UpstreamTimeout: 2 * time.Minute,
		RetryBodyLimit: retryBodyLimit, RetryMemory: 32 << 20,
		Clients: m.callers, AllowAnonymous: true, Loopback: true,
		AccessLog: true, Metrics: m.metrics, Log: log,
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	m.addr, m.server = listener.Addr().String(), m.proxy.Server()
	go func() { _ = m.server.Serve(listener) }()
	return m
}

// stopProxy shuts a proxy down as the program does.
func (w *world) stopProxy(m *member) {
	m.stopping.Store(true)
	m.proxy.Stopping()
	<-time.After(200 * time.Millisecond) // SHUTDOWN_DELAY
	ctx, cancel := w.timeout()
	defer cancel()
	if err := m.server.Shutdown(ctx); err != nil {
		w.judge.violation("requests do not end when a proxy shuts down: %v", err)
		_ = m.server.Close()
	}
	w.isIdle(m)
	m.proxy.Close()
	m.callers.Close()
	ctx, cancel = w.timeout()
	defer cancel()
	if err := m.source.Close(ctx); err != nil {
		w.judge.violation("a proxy loses a token when it shuts down: %v", err)
	}
	_ = m.redis.Close()
}

// replaceProxies replaces a proxy every few seconds until the end. The new proxy starts
// before the old one stops.
func (w *world) replaceProxies(end time.Time) {
	dice := w.random(100)
	for {
		<-time.After(2*time.Second + upTo(dice, 2*time.Second))
		if time.Now().After(end) {
			return
		}
		old := w.fleet.any(dice)
		w.fleet.add(w.startProxy())
		w.fleet.remove(old)
		w.judge.fault("proxy replaced")
		w.stopProxy(old)
	}
}

func (w *world) openRedis() redis.UniversalClient {
	client, err := store.Open(secret.New(w.redis.URL()))
	if err != nil {
		w.t.Fatal(err)
	}
	return client
}

// timeout returns a context with the program's timeout.
func (w *world) timeout() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), tokenTimeout)
}

func newRing(t *testing.T) seal.Ring {
	key, err := seal.Generate("soak")
	if err != nil {
		t.Fatal(err)
	}
	ring, err := seal.Parse(key)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}
