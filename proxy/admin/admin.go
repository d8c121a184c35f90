// Package admin is the operator's door: whether the process lives and can
// serve, its metrics, a page that shows how the portals are, and the flow that
// connects one.
package admin

import (
	"encoding/json"
	"log"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"hubspot-auth-proxy/proxy"
	"hubspot-auth-proxy/proxy/clients"
	"hubspot-auth-proxy/proxy/connlimit"
	"hubspot-auth-proxy/proxy/wire"
	"hubspot-auth-proxy/tokens/hubspot"
	"hubspot-auth-proxy/tokens/secret"
	"hubspot-auth-proxy/tokens/throttle"
)

// Options are what an [Admin] works with.
type Options struct {
	// RedisAnswers reports whether Redis answered when it was last asked. It
	// must be safe for concurrent use.
	RedisAnswers func() bool

	// RedisPolled reports whether changes that other processes make are polled for,
	// because the Redis user may not subscribe. Nil means that they are not. It must
	// be safe for concurrent use.
	RedisPolled func() bool

	// SeedFault returns why the seed file cannot be used as it is now, empty if it
	// can. Nil: there is none. It must be safe for concurrent use.
	SeedFault func() string

	// Loopback tells that the listener's own address is loopback: requests
	// for other hosts are then refused, but for /callback.
	Loopback bool

	// Password lets the operator in to pages, as user admin by HTTP Basic.
	// Empty: pages are served on loopback only. Health and /callback never
	// need it.
	Password secret.Text

	// App is the HubSpot app that portals are connected to. If it is nil, or
	// RedirectURL is empty, /connect and /callback only say what to set.
	App *hubspot.App

	// RedirectURL is the address of /callback as browsers reach it, which the
	// HubSpot app must know.
	RedirectURL string

	// AuthorizeURL is HubSpot's authorize page. Empty is HubSpot's own.
	AuthorizeURL string

	// Scopes and OptionalScopes are what portals are asked for, separated by
	// spaces.
	Scopes, OptionalScopes string

	// MarketplaceInstall makes /callback take installations that begin in HubSpot's
	// marketplace.
	MarketplaceInstall bool

	// Portals is where portals are stored. Needed with an App; nil otherwise
	// means that the status page shows none.
	Portals Portals

	// Metrics are what /metrics shows. Nil: it is not served.
	Metrics prometheus.Gatherer

	// History is the calls that the status page draws. Nil: it draws none.
	History *proxy.History

	// Activity is what the process has seen of portals and clients of late. Nil
	// means that the pages do not show it.
	Activity *proxy.Activity

	// Callers returns the clients that have a key, for the status page. Nil:
	// there are none. It must be safe for concurrent use.
	Callers func() []clients.Client

	// Log gets a line for every refusal. Nil: none is written.
	Log *zap.Logger

	// Now is the clock. Nil is time.Now.
	Now func() time.Time
}

// defaultAuthorizeURL is HubSpot's page.
// https://developers.hubspot.com/docs/apps/legacy-apps/authentication/working-with-oauth
const defaultAuthorizeURL = "https://app.hubspot.com/oauth/authorize"

// Admin is the handler of the admin listener. It is safe for concurrent use,
// and not ready until it is told.
type Admin struct {
	options Options
	mux     *http.ServeMux
	state   atomic.Value                // string: why it is not ready, or ready
	joined  atomic.Bool                 // Redis has answered, and the seed is applied
	changed atomic.Pointer[secret.Text] // the password, if it was changed
	log     *zap.Logger
	faults  *zap.Logger // log, but each cause once per throttle.Every
	now     func() time.Time
	tries   tries // of passwords

	// Of the connect flow, if that is set up:
	states    *States
	redirect  *url.URL // RedirectURL
	installed turns    // of installations without a state
	finalized turns    // of those with one
}

const (
	starting = "starting"
	ready    = "ready"
	stopping = "stopping"
)

// New returns the admin listener's handler.
func New(options Options) *Admin {
	a := &Admin{options: options, mux: http.NewServeMux(), log: options.Log, now: options.Now}
	if a.log == nil {
		a.log = zap.NewNop()
	}
	a.faults = throttle.Logger(a.log, throttle.Every)
	if a.now == nil {
		a.now = time.Now
	}
	if a.options.AuthorizeURL == "" {
		a.options.AuthorizeURL = defaultAuthorizeURL
	}
	a.state.Store(starting)
	a.mux.HandleFunc("GET /healthz", a.healthz)
	a.mux.HandleFunc("GET /readyz", a.readyz)
	a.mux.HandleFunc("GET /{$}", a.guard(a.status))
	a.mux.HandleFunc("GET /portals/{id}", a.guard(a.portal))
	if options.Metrics != nil {
		a.mux.Handle("GET /metrics", a.metricsHandler())
	}
	connect, callback := http.HandlerFunc(notSetUp), http.HandlerFunc(notSetUp)
	if redirect, err := url.Parse(options.RedirectURL); err == nil && redirect.Host != "" && isSetUp(options.App) {
		a.redirect = redirect
		a.states = NewStates(options.App, options.RedirectURL, a.now)
		connect, callback = a.connect, a.callback
	}
	a.mux.HandleFunc("GET /connect", a.guard(connect))
	a.mux.HandleFunc("GET "+callbackPath, callback)
	return a
}

// isSetUp reports whether there is an app, and a secret to sign states with.
func isSetUp(app *hubspot.App) bool { return app != nil && !app.ClientSecret.IsZero() }

// Ready notes that the proxy can serve.
func (a *Admin) Ready() { a.state.CompareAndSwap(starting, ready) }

// Joined notes that Redis has answered and the seed is applied, so that the proxy
// can serve.
func (a *Admin) Joined() {
	a.joined.Store(true)
	a.Ready()
}

// Stopping tells that the proxy serves on for a while, and is to get no new
// requests.
func (a *Admin) Stopping() { a.state.Store(stopping) }

// The limits of a listener that anybody may reach: what unfinished requests can
// take of memory is their product.
const (
	maxHeader      = 16 << 10
	maxConnections = 64
	headerTimeout  = 5 * time.Second

	// busyTime is how long a request may be under way while others wait for a
	// connection. Probes wait for longer.
	busyTime = 2 * time.Second
)

// Server returns a server for the admin listener, and the listener to serve on,
// which limits how many connections are open at once. A connection that has no
// whole request yet, or none any more, makes way for a new one, and so does one
// whose client keeps a request from ending, so that neither unfinished requests
// nor answers that nobody reads keep a probe from its answer.
func (a *Admin) Server(listener net.Listener) (*http.Server, net.Listener) {
	limited := connlimit.New(listener, maxConnections, 0, busyTime)
	return &http.Server{
		Handler:           a,
		MaxHeaderBytes:    maxHeader - slop,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      10 * time.Second,
		ConnState:         limited.ConnState,
		ConnContext:       limited.ConnContext,
		ErrorLog:          log.New(serverLog{a.faults}, "", 0),
	}, limited
}

// slop is what net/http reads of a header beyond MaxHeaderBytes.
const slop = 4 << 10

// Close logs what was kept back. Its server is to be shut down before.
func (a *Admin) Close() { _ = a.faults.Sync() }

// ServeHTTP answers the operator.
func (a *Admin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength != 0 {
		// No page has a use for a body. net/http's server would wait for it
		// before it answers.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now())
		w.Header().Set("Connection", "close")
	}
	// /callback passes with any Host: the listener may be behind a sidecar or
	// an ingress that hands on the public name, which HubSpot sends browsers
	// to. Nor does a page that was led here by its own name (DNS rebinding)
	// gain by that: without a state that was signed here, and the cookie or
	// link that goes with it, /callback does nothing and tells nothing, except
	// that it connects a portal's first installation from HubSpot's marketplace,
	// where that is switched on.
	if a.options.Loopback && r.URL.Path != callbackPath && !wire.IsLoopbackHost(r.Host) {
		http.Error(w, "This listener answers to localhost and loopback addresses only.", http.StatusForbidden)
		return
	}
	a.mux.ServeHTTP(w, r)
}

// healthz answers 200: the process lives.
func (a *Admin) healthz(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, map[string]string{"status": "alive"})
}

// readyz answers 200 if the proxy can serve, else 503. That Redis is away for
// a while does not make it unready: portals that are known are served.
func (a *Admin) readyz(w http.ResponseWriter, _ *http.Request) {
	state := a.state.Load().(string)
	redis, seed := "away", "applied"
	switch {
	case !a.joined.Load():
		redis, seed = "awaited", "awaited"
	case a.options.RedisAnswers():
		redis = "answers"
	}
	status := http.StatusServiceUnavailable
	if state == ready {
		status = http.StatusOK
	}
	// That it answers at all tells that the settings are good.
	body := map[string]string{"status": state, "settings": "loaded", "redis": redis, "seed": seed}
	if a.options.SeedFault != nil {
		if fault := a.options.SeedFault(); fault != "" {
			body["seed"], body["seed_fault"] = "faulty", fault
		}
	}
	if a.joined.Load() && a.options.RedisPolled != nil && a.options.RedisPolled() {
		body["redis_changes"] = "polled every few seconds, because the Redis user may not subscribe"
	}
	answer(w, status, body)
}

func answer(w http.ResponseWriter, status int, body map[string]string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}
