// Package admin has the operator's listener: health checks, metrics, the status page, and the
// flow that connects a portal.
package admin

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/zap"

	"hubspot-auth-proxy/proxy/activity"
	"hubspot-auth-proxy/proxy/clients"
	"hubspot-auth-proxy/proxy/wire"
	"hubspot-auth-proxy/tokens/hubspot"
	"hubspot-auth-proxy/tokens/secret"
	"hubspot-auth-proxy/tokens/throttle"
)

// Options are the options of an [Admin].
type Options struct {
	// Storage is where the portals are stored. The zero value means Redis.
	Storage Storage

	// RedisAnswers reports whether Redis answered the last command. It must be safe for
	// concurrent use.
	RedisAnswers func() bool

	// RedisPolled reports whether the process polls for the changes of other processes,
	// because the Redis user has no right to subscribe. nil means that it does not poll.
	// It must be safe for concurrent use.
	RedisPolled func() bool

	// SeedFault returns the reasons for which the current seed file cannot be used, one on
	// each line, or "" if the file can be used. nil means that there is no seed file. It must be safe for
	// concurrent use.
	SeedFault func() string

	// Loopback is true if the listener's address is a loopback address. Requests whose
	// Host is not a loopback name or address are then refused, except for /callback. If
	// Loopback is false, every Host is accepted.
	Loopback bool

	// Password is the password of the user admin, for HTTP Basic. Pages require it. If
	// it is empty, pages are served on loopback only. Health, metrics and /callback never
	// require it.
	Password secret.Text

	// Anonymous is true if calls need no client key.
	Anonymous bool

	// App is the HubSpot app that portals are connected to. If App is nil or RedirectURL
	// is empty, /connect and /callback only say what to set.
	App *hubspot.App

	// RedirectURL is the address of /callback as browsers reach it. It must be registered
	// in the HubSpot app's settings.
	RedirectURL string

	// AuthorizeURL is the address of HubSpot's authorize page. Empty means HubSpot's own.
	AuthorizeURL string

	// Scopes and OptionalScopes are requested from portals. They are separated by spaces. If
	// Scopes is empty, /connect only says what to set, because HubSpot requires a scope.
	Scopes, OptionalScopes string

	// MarketplaceInstall makes /callback accept installations that begin in HubSpot's
	// marketplace.
	MarketplaceInstall bool

	// Portals stores the portals. It is required with an App. Without an App, nil means
	// that the status page shows no portals.
	Portals Portals

	// Metrics are the metrics of /metrics. nil means that /metrics is not served.
	Metrics prometheus.Gatherer

	// Activity has the calls for the status page's chart, and the recent activity of portals
	// and clients. nil means that the pages do not show them.
	Activity *activity.Log

	// Clients returns the clients that have a key, for the status page. nil means that
	// there are none. It must be safe for concurrent use.
	Clients func() []clients.Client

	// Log is the logger. Refused requests are logged, throttled. nil means that nothing
	// is logged.
	Log *zap.Logger

	// Now is the clock. nil means time.Now.
	Now func() time.Time
}

// defaultAuthorizeURL is HubSpot's page.
// https://developers.hubspot.com/docs/apps/legacy-apps/authentication/working-with-oauth
const defaultAuthorizeURL = "https://app.hubspot.com/oauth/authorize"

// Admin is the handler of the admin listener. [New] returns one. /readyz reports that it is not
// ready until [Admin.Ready] or [Admin.Joined] is called. An Admin is safe for concurrent use.
type Admin struct {
	options   Options
	mux       *http.ServeMux
	state     atomic.Value                // string: starting, ready or stopping
	joined    atomic.Bool                 // Redis has answered, and the seed is applied
	changed   atomic.Pointer[secret.Text] // the password that SetPassword has set
	log       *zap.Logger
	throttled *zap.Logger // log, throttled
	now       func() time.Time
	tries     tries // counts wrong passwords

	// The connect flow; nil and zero if it is not set up.
	states    *States
	redirect  *url.URL // RedirectURL
	installed turns    // installations without a state
	finalized turns    // installations with a state
}

const (
	starting = "starting"
	ready    = "ready"
	stopping = "stopping"
)

// New returns the admin listener's handler. The caller must call [Admin.Close].
func New(options Options) *Admin {
	a := &Admin{options: options, mux: http.NewServeMux(), log: options.Log, now: options.Now}
	if a.log == nil {
		a.log = zap.NewNop()
	}
	a.throttled = throttle.Logger(a.log, throttle.Every)
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
	connect, callback := http.HandlerFunc(a.notSetUp), http.HandlerFunc(a.notSetUp)
	if redirect, err := url.Parse(options.RedirectURL); err == nil && redirect.Host != "" && isSetUp(options.App) {
		a.redirect = redirect
		a.states = NewStates(options.App, options.RedirectURL, a.now)
		callback = a.callback
		if a.canConnect() {
			connect = a.connect
		}
	}
	a.mux.HandleFunc("GET /connect", a.guard(connect))
	a.mux.HandleFunc("GET "+callbackPath, callback)
	return a
}

// canConnect reports whether /connect is set up. Without scopes, /callback still serves links that
// other processes have made, and installations.
func (a *Admin) canConnect() bool { return a.states != nil && a.options.Scopes != "" }

// isSetUp reports whether there is an app, and a secret to sign states with.
func isSetUp(app *hubspot.App) bool { return app != nil && !app.ClientSecret.IsZero() }

// Ready makes /readyz report that the proxy can serve.
func (a *Admin) Ready() { a.state.CompareAndSwap(starting, ready) }

// Joined records that Redis has answered and the seed is applied, and calls [Admin.Ready].
func (a *Admin) Joined() {
	a.joined.Store(true)
	a.Ready()
}

// Stopping makes /readyz report that the proxy is shutting down and should get no new requests.
func (a *Admin) Stopping() { a.state.Store(stopping) }

// Close writes log entries that are still throttled. Shut down the server before Close.
func (a *Admin) Close() { _ = a.throttled.Sync() }

// ServeHTTP implements [http.Handler].
func (a *Admin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength != 0 {
		// No page reads a body. Without the deadline, net/http's server would wait for the
		// rest of the body before it answers.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now())
		w.Header().Set("Connection", "close")
	}
	if a.isLostCallback(r) {
		a.lostCallback(w)
		return
	}
	// /callback is served for any Host, because the listener may be behind a sidecar or an
	// ingress that forwards the public name, to which HubSpot redirects browsers. A web page
	// that reaches the listener by DNS rebinding cannot connect a portal by this, because
	// /callback requires a state that this app has signed, and the cookie or link that
	// belongs to the state. The only exception is an installation from HubSpot's marketplace
	// without a state, if MarketplaceInstall is set.
	if a.options.Loopback && r.URL.Path != callbackPath && !wire.IsLoopbackHost(r.Host) {
		http.Error(w, "This listener answers to localhost and loopback addresses only.", http.StatusForbidden)
		return
	}
	a.mux.ServeHTTP(w, r)
}

// healthz answers 200, because the process is alive.
func (a *Admin) healthz(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, map[string]string{"status": "alive"})
}

// readyz answers 200 if the proxy can serve, and otherwise 503. An outage of Redis does not make
// the proxy unready, because known portals are still served.
func (a *Admin) readyz(w http.ResponseWriter, _ *http.Request) {
	state := a.state.Load().(string)
	seed := "applied"
	if !a.joined.Load() {
		seed = "awaited"
	}
	status := http.StatusServiceUnavailable
	if state == ready {
		status = http.StatusOK
	}
	// The process has started, so the settings are valid.
	body := map[string]string{"status": state, "settings": "loaded", "redis": a.redisState(), "seed": seed}
	if fault := a.seedFault(); fault != "" {
		body["seed"], body["seed_fault"] = "faulty", fault
	}
	if a.joined.Load() && a.options.RedisPolled != nil && a.options.RedisPolled() {
		body["redis_changes"] = "polled every few seconds, because the Redis user may not subscribe"
	}
	answer(w, status, body)
}

// seedFault returns the faults of the seed file, one on each line; "" if there are none.
func (a *Admin) seedFault() string {
	if a.options.SeedFault == nil {
		return ""
	}
	return a.options.SeedFault()
}

func answer(w http.ResponseWriter, status int, body map[string]string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

// metricsHandler serves /metrics in Prometheus' text format. If some metrics cannot be gathered, the
// others are served.
func (a *Admin) metricsHandler() http.Handler {
	gather := prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		families, err := a.options.Metrics.Gather()
		if err != nil {
			// The error may quote values of labels, so it is only logged.
			a.log.Error("some metrics cannot be gathered", zap.Error(err))
			err = errors.New("some metrics cannot be gathered; see the log")
		}
		return families, err
	})
	return promhttp.HandlerFor(gather, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError})
}
