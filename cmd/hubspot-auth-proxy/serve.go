package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"

	"hubspot-auth-proxy/cmd/hubspot-auth-proxy/seeding"
	"hubspot-auth-proxy/config"
	"hubspot-auth-proxy/proxy"
	"hubspot-auth-proxy/proxy/activity"
	"hubspot-auth-proxy/proxy/admin"
	"hubspot-auth-proxy/proxy/budget"
	"hubspot-auth-proxy/proxy/clients"
	"hubspot-auth-proxy/proxy/connlimit"
	records "hubspot-auth-proxy/tokens/store"
)

// headerGrace is how long a new connection may be without a request. If a connection stays
// without a request for longer, the proxy may close that connection to accept another one.
const headerGrace = time.Second

// refusalTimeout is how long a client may take to send the body of a refused request and to
// read the answer. If the client takes longer, the proxy may close the connection to accept
// another one.
const refusalTimeout = 2 * time.Second

// serve runs the proxy until ctx ends.
func serve(ctx context.Context, environ []string, stderr io.Writer) error {
	unprotected := hideMemory() // before the memory contains a secret
	settings, err := config.Load(environ)
	if err != nil {
		return err
	}
	log, flush := newLogger(settings, stderr)
	defer flush()
	if unprotected != nil {
		log.Warn("the memory of the process cannot be protected: other processes of the same user can read the secrets in it, and core dumps contain them", zap.Error(unprotected))
	}
	for variable, setting := range config.Misspelt(environ) {
		log.Warn("an environment variable is not a setting, although its name is almost that of one; check its spelling, and that only secrets can be given as a file", zap.String("variable", variable), zap.String("setting", setting))
	}
	warnOfStorage(settings, log)
	defer collectLess()()
	s, err := start(ctx, settings, environ, log)
	if err != nil {
		if ctx.Err() != nil {
			return nil // SIGTERM came before the proxy was ready
		}
		return err
	}
	return s.run(ctx)
}

// start opens all parts of the service, and returns when the proxy serves. Redis may not
// have answered by then. After an error, all parts are closed again.
func start(ctx context.Context, settings config.Config, environ []string, log *zap.Logger) (*service, error) {
	s := &service{store: &store{settings: settings, log: log}, secrets: settings.Files(environ), failed: make(chan error, 2), metrics: newRegistry(), activity: activity.New(nil)}
	if err := s.open(ctx); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// open opens the parts of the service. After an error the caller must call close.
func (s *service) open(ctx context.Context) error {
	tlsConfig, faults := tlsConfig(s.settings)
	authority, wrong := interceptAuthority(s.settings)
	s.authority = authority
	faults = append(faults, wrong...)
	redis, err := openRedis(ctx, s.settings, s.log)
	if more, ok := errors.AsType[config.Faults](err); ok {
		faults = append(faults, more...)
	} else if err != nil {
		return err
	} else {
		s.connect(redis, s.metrics, s.rereadSecret)
		s.closers = append(s.closers, s.store.close)
	}
	var more config.Faults
	s.seeder, more = seeding.New(s.settings, environmentSeeds(s.settings), s.log)
	faults = append(faults, more...)
	if faults != nil {
		return faults
	}
	s.openBudget()
	s.clientSet = clients.NewSet(s.clients, s.log)
	s.closers = append(s.closers, s.clientSet.Close)
	registerGauge(s.metrics, "expiring_client_keys", "Clients whose current key expires within 14 days, or has expired.",
		func() float64 { return float64(s.clientSet.Expiring()) })
	registerGauge(s.metrics, "faulty_seeds", "1 if the seed file cannot be used, so that its previous content stays in use; else 0.", func() float64 {
		if s.seeder.Fault() != "" {
			return 1
		}
		return 0
	})
	s.warnOfCA()
	for _, warning := range s.settings.ConnectWarnings() {
		s.log.Warn(warning)
	}
	if err := s.listen(); err != nil {
		return err
	}
	s.seeder.Provide(s.source, s.clientSet)
	s.joinAtOnce(ctx)
	s.serveProxy(tlsConfig)
	s.followSettings()
	return nil
}

// openBudget opens the budget. The budget counts calls, and lets each call wait for its
// turn within HubSpot's rate limits.
func (s *service) openBudget() {
	s.budget = budget.New(budget.Options{Redis: s.redis, Prefix: s.settings.RedisPrefix, Metrics: s.metrics, Log: s.log})
	s.closers = append(s.closers, func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*records.Timeout)
		defer cancel()
		if err := s.budget.Close(ctx); err != nil {
			s.log.Error("the calls of the last seconds could not be stored, and are missing from the usage", zap.Error(err))
		}
	})
}

// warnOfCA logs the names and the expiry of the CA, and warns if it expires soon.
func (s *service) warnOfCA() {
	if s.authority == nil {
		return
	}
	s.log.Info("CONNECT is accepted", zap.Strings("names", s.authority.Names()), zap.Time("ca_expires", s.authority.NotAfter()))
	if time.Until(s.authority.NotAfter()) < 30*24*time.Hour {
		s.log.Warn("the CA of INTERCEPT_CA_CERT_FILE expires soon: make a new one with ca generate, and let the clients trust it", zap.Time("ca_expires", s.authority.NotAfter()))
	}
	if host := s.settings.UpstreamURL.Hostname(); !slices.Contains(s.authority.Names(), strings.ToLower(host)) {
		s.log.Info("CONNECT to the host of UPSTREAM_URL is refused, because the CA may not sign for that name", zap.String("host", host))
	}
}

// listen binds both addresses, and starts the admin listener's server. This happens before
// the start waits for Redis, so an address that is in use is reported at once, and health
// probes are answered from the beginning.
func (s *service) listen() error {
	listener, err := net.Listen("tcp", s.settings.ListenAddr)
	if err != nil {
		return listenError("LISTEN_ADDR", err)
	}
	s.listener = listener
	s.closers = append(s.closers, func() { _ = listener.Close() })
	adminListener, err := net.Listen("tcp", s.settings.AdminAddr)
	if err != nil {
		return listenError("ADMIN_ADDR", err)
	}
	s.adminListener = adminListener
	s.admin = admin.New(admin.Options{
		Storage:            storage(s.settings),
		RedisAnswers:       s.source.RedisAnswers,
		RedisPolled:        s.source.PollsRedis,
		SeedFault:          s.seeder.Fault,
		Loopback:           isLoopback(adminListener),
		Password:           s.settings.AdminPassword,
		Anonymous:          s.anonymous(),
		App:                s.app,
		RedirectURL:        text(s.settings.HubSpotRedirectURL),
		AuthorizeURL:       text(s.settings.HubSpotAuthorizeURL),
		Scopes:             s.settings.HubSpotScopes,
		OptionalScopes:     s.settings.HubSpotOptionalScopes,
		Portals:            s.source,
		MarketplaceInstall: s.settings.HubSpotMarketplaceInstall,
		Metrics:            s.metrics,
		Activity:           s.activity,
		Clients:            s.clientSet.All,
		Log:                s.log,
	})
	server, limited := s.admin.Server(adminListener)
	s.closers = append(s.closers, func() {
		// Let portals that are being connected finish.
		ctx, cancel := context.WithTimeout(context.Background(), admin.CallbackTimeout)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			s.log.Error("a portal that was being connected was interrupted, and may have to be connected again", zap.Error(err))
			_ = server.Close()
		}
		s.admin.Close()
	})
	go s.serving(func() error { return server.Serve(limited) })
	return nil
}

// storage returns where the portals are stored.
func storage(settings config.Config) admin.Storage {
	switch {
	case !settings.RedisURL.IsZero():
		return admin.Redis
	case settings.StateFile != "":
		return admin.StateFile
	}
	return admin.Memory
}

// listenError returns the error for an address that cannot be listened at, with what to do.
func listenError(setting string, err error) error {
	remedy := "give an address of this machine, or :8080 for all of its addresses"
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		remedy = "another program has the port: give another one"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		remedy = "this machine does not have the address: " + remedy
	case errors.Is(err, fs.ErrPermission):
		remedy = "the user of this program may not use the port: give one from 1024 on"
	}
	return fmt.Errorf("listen at %s; %s: %w", setting, remedy, err)
}

// serveProxy creates the proxy, and serves it.
func (s *service) serveProxy(tlsConfig *tls.Config) {
	anonymous := s.anonymous()
	files := openFiles()
	limits := limitsOf(s.settings, files)
	limits.warn(s.log, files)
	options := proxy.Options{
		Credentials:     s.source,
		Upstream:        s.settings.UpstreamURL,
		UpstreamTimeout: s.settings.UpstreamTimeout,
		UpstreamHTTP2:   s.settings.UpstreamHTTP2,
		RetryBodyLimit:  s.settings.RetryBodyLimit,
		RetryMemory:     s.settings.RetryMemory,
		Clients:         s.clientSet,
		MaxRequests:     limits.requests,
		Budget:          s.budget,
		RateLimitWait:   s.settings.RateLimitWait,
		DefaultPortal:   s.settings.Default(),
		ServePortals:    s.settings.ServePortals,
		AllowAnonymous:  anonymous,
		OAuthNeedsKey:   !s.settings.OAuthWithoutKey,
		Loopback:        isLoopback(s.listener),
		PortalDomain:    s.portalDomain(),
		AllowedHosts:    s.settings.AllowedHosts,
		Intercept:       s.authority,
		AccessLog:       s.settings.AccessLog != "false",
		AccessLogErrors: s.settings.AccessLog == "errors",
		Metrics:         s.metrics,
		Activity:        s.activity,
		Log:             s.log,
	}
	listener := s.listener
	if limits.connections > 0 {
		limited := connlimit.New(listener, limits.connections, headerGrace, refusalTimeout)
		listener, options.ConnState, options.ConnContext = limited, limited.ConnState, limited.ConnContext
	}
	s.proxy = proxy.New(options)
	s.closers = append(s.closers, s.proxy.Close)
	server := s.proxy.Server()
	server.TLSConfig = tlsConfig
	s.server = server
	go s.serving(func() error {
		if tlsConfig != nil {
			return server.ServeTLS(listener, "", "")
		}
		return server.Serve(listener)
	})
	state := "the proxy is ready"
	if !s.joined {
		state = "the proxy listens, and waits for Redis"
	}
	s.log.Info(state, zap.Stringer("address", s.listener.Addr()), zap.Stringer("admin", s.adminListener.Addr()), zap.Stringer("upstream", s.settings.UpstreamURL),
		zap.String("default_portal", s.settings.Default()), zap.Strings("serve_portals", s.settings.ServePortals),
		zap.Int("max_connections", limits.connections), zap.Int("max_requests", limits.requests))
	if anonymous {
		s.log.Warn("clients need no client key: anyone who can reach the address can use all portals")
	} else {
		s.log.Info("clients need a client key")
	}
	s.warnOfHosts()
}

// serving runs a server until it is shut down. If the server fails, run receives the
// error, and stops the program.
func (s *service) serving(serve func() error) {
	if err := serve(); !errors.Is(err, http.ErrServerClosed) {
		s.failed <- err
	}
}

// run serves until ctx ends or a server fails, and then shuts down in order. It returns the
// error of the server.
func (s *service) run(ctx context.Context) error {
	var failure error
	select {
	case <-ctx.Done():
	case failure = <-s.failed:
	}
	s.stop()
	return failure
}

// stop shuts down in order, so that clients do not notice. The admin listener serves until all
// requests have ended.
func (s *service) stop() {
	// 1. Report that the process is not ready, so that new requests are sent elsewhere.
	s.admin.Stopping()
	s.proxy.Stopping()
	s.log.Info("stopping", zap.Stringer("delay", s.settings.ShutdownDelay), zap.Stringer("timeout", s.settings.ShutdownTimeout))
	// 2. Keep serving until load balancers have noticed.
	time.Sleep(s.settings.ShutdownDelay)
	// 3. Stop listening, and let the requests under way finish.
	ctx, cancel := context.WithTimeout(context.Background(), s.settings.ShutdownTimeout)
	defer cancel()
	s.notifyUntil, _ = ctx.Deadline()
	err := s.shutdown(ctx)
	// 4. Break off the requests that take too long.
	if err != nil {
		s.breakOff()
	}
	// 5. Finish renewals, store the tokens that are not stored yet, and close everything.
	s.close()
	// 6. serve writes the rest of the log when run has returned.
	s.log.Info("stopped")
}

// shutdown stops listening, and waits until all requests have ended, including those in
// tunnels, or until ctx ends.
func (s *service) shutdown(ctx context.Context) error {
	var tunnels error
	var waiting sync.WaitGroup
	waiting.Go(func() { tunnels = s.proxy.Shutdown(ctx) })
	err := s.server.Shutdown(ctx)
	waiting.Wait()
	return errors.Join(err, tunnels)
}

// breakOff ends the requests that are still under way.
func (s *service) breakOff() {
	if n := s.proxy.UnderWay(); n > 0 {
		s.log.Warn("SHUTDOWN_TIMEOUT is over; the requests that are still under way are broken off", zap.Int64("requests", n))
	}
	_ = s.server.Close()
	s.proxy.CloseTunnels()
	// Wait until the requests have ended, so that they are logged and counted.
	for deadline := time.Now().Add(time.Second); s.proxy.UnderWay() > 0 && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
}

// text returns the URL as text; "" for nil.
func text(u *url.URL) string {
	if u == nil {
		return ""
	}
	return u.String()
}
