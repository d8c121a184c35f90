package proxy_test

import (
	"context"
	"flag"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"hubspot-auth-proxy/proxy"
	"hubspot-auth-proxy/proxy/activity"
	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspot"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/secret"
	"hubspot-auth-proxy/tokens/store"
	"hubspot-auth-proxy/tokens/testkit"
)

func TestMain(m *testing.M) {
	// Parallel tests wait most of the time, so more of them run at once than there are CPUs.
	_ = flag.Set("test.parallel", "8")
	// A server leaves a client half a second to read the last answer of a
	// connection.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}

// portalID is the portal of tests that need but one, and the default portal.
const portalID = "62515"

// rig is a proxy as it is shipped, on a real socket, between a client and a
// fake HubSpot.
type rig struct {
	t      testing.TB
	hub    *hubspottest.Server
	source *tokens.Source
	seeder *tokens.Source // that seeds portals; nil: source
	proxy  *proxy.Proxy
	addr   string // of the proxy
	// through opens a tunnel on a connection to the proxy, for raw. Nil: none.
	through func(net.Conn) net.Conn
	client  *http.Client
	logs    *logs

	metrics  *prometheus.Registry
	activity *activity.Log
}

// setup is what a test may set otherwise. Its zero value is an OAuth portal at
// a fake HubSpot that speaks plain HTTP/1.1, embedded Redis, and all settings
// at their defaults, with the log at level debug.
type setup struct {
	hub   *hubspottest.Server   // to share one
	redis redis.UniversalClient // to share one
	proxy func(*proxy.Options)
	// source sets options of the source.
	source func(*tokens.Options)
}

// start starts a rig, and ends it with the test.
func start(t testing.TB, s setup) *rig {
	t.Helper()
	r := &rig{t: t, hub: s.hub, logs: &logs{}, metrics: prometheus.NewRegistry(), activity: activity.New(nil)}
	if r.hub == nil {
		r.hub = hubspottest.NewServer()
		t.Cleanup(r.hub.Close)
	}
	r.hub.Handle(serveHubPaths)
	if s.redis == nil {
		client, end := store.Embedded()
		t.Cleanup(end)
		s.redis = client
	}
	r.startSource(s)
	r.startProxy(s)
	r.client = &http.Client{
		Transport:     &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 256},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	t.Cleanup(r.client.CloseIdleConnections)
	return r
}

func (r *rig) startSource(s setup) {
	api := &http.Transport{TLSClientConfig: r.hub.ClientTLS()}
	options := tokens.Options{
		Redis:        s.redis,
		Prefix:       "hubspot:",
		RefreshAhead: 5 * time.Minute,
		Log:          r.logs.logger(),
		App: &hubspot.App{
			ClientID:     hubspottest.ClientID,
			ClientSecret: secret.New(hubspottest.ClientSecret),
			TokenURL:     r.hub.TokenURL(),
			Client:       hubspot.NewClient(api, 15*time.Second),
		},
	}
	if s.source != nil {
		s.source(&options)
	}
	source := tokens.NewSource(options)
	r.source = source
	r.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = source.Close(ctx)
		api.CloseIdleConnections()
	})
}

func (r *rig) startProxy(s setup) {
	upstream, err := url.Parse(r.hub.URL)
	if err != nil {
		r.t.Fatal(err)
	}
	options := proxy.Options{
		Credentials:     r.source,
		Upstream:        upstream,
		UpstreamTLS:     r.hub.ClientTLS(),
		UpstreamTimeout: 2 * time.Minute,
		RetryBodyLimit:  1 << 20,
		RetryMemory:     32 << 20,
		DefaultPortal:   portalID,
		AllowAnonymous:  true,
		Loopback:        true,
		AccessLog:       true,
		Metrics:         r.metrics,
		Activity:        r.activity,
		Log:             r.logs.logger(),
	}
	if s.proxy != nil {
		s.proxy(&options)
	}
	r.proxy = proxy.New(options)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	r.addr = listener.Addr().String()
	server := r.proxy.Server()
	go func() { _ = server.Serve(listener) }()
	r.t.Cleanup(func() {
		_ = server.Close()
		r.proxy.Close()
	})
}

// connect connects the portal by OAuth, as a seed does.
func (r *rig) connect(portal string) {
	r.t.Helper()
	r.seed(portal, tokens.OAuth, r.hub.Connect(portal))
}

// seed stores a portal's credential.
func (r *rig) seed(portal string, kind tokens.Kind, value string) {
	r.t.Helper()
	seeder := r.seeder
	if seeder == nil {
		seeder = r.source
	}
	if _, err := seeder.Seed(r.t.Context(), tokens.Seed{Portal: portal, Kind: kind, Secret: secret.New(value)}); err != nil {
		r.t.Fatal(err)
	}
}

// url returns the URL of a path at the proxy.
func (r *rig) url(path string) string { return "http://" + r.addr + path }

// raw sends bytes to the proxy as they are, and returns the connection to read
// the answer from; it ends with the test. In a tunnel, localhost as a Host is
// the server's name instead.
func (r *rig) raw(request string) net.Conn {
	r.t.Helper()
	conn, err := net.Dial("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = conn.Close() })
	if r.through != nil {
		conn, request = r.through(conn), strings.ReplaceAll(request, "Host: localhost", "Host: "+tunnelName)
	}
	if _, err := conn.Write([]byte(request)); err != nil {
		r.t.Fatal(err)
	}
	return conn
}

// logs is all that was logged, at level debug, as JSON lines.
type logs struct{ testkit.Output }

func (l *logs) logger() *zap.Logger {
	encoder := zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig())
	return zap.New(zapcore.NewCore(encoder, zapcore.AddSync(l), zapcore.DebugLevel))
}

// noSecret fails the test if text has a secret of the fake HubSpot.
func noSecret(t testing.TB, where, text string) {
	t.Helper()
	if i := strings.Index(text, hubspottest.Canary); i >= 0 {
		t.Errorf("%s has a secret: …%s…", where, text[max(0, i-80):min(len(text), i+40)])
	}
}
