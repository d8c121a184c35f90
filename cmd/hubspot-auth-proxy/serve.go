package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"go.uber.org/zap"

	"hubspot-auth-proxy/config"
	"hubspot-auth-proxy/proxy"
	"hubspot-auth-proxy/proxy/admin"
	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspot"
	"hubspot-auth-proxy/tokens/secret"
)

const (
	// redisPatience is how long Redis may be away at the start.
	redisPatience = 30 * time.Second

	// tokenTimeout is how long a call of HubSpot's token endpoint may take.
	tokenTimeout = 15 * time.Second
)

// serve runs the proxy until ctx ends.
func serve(ctx context.Context, environ []string, stderr io.Writer) error {
	settings, err := config.Load(environ)
	if err != nil {
		return err
	}
	log, flush := newLogger(settings, stderr)
	defer flush()
	redis.SetLogger(&logging.VoidLogger{}) // what it tells on its own account, tokens tells better
	s, err := start(ctx, settings, log)
	if err != nil {
		if ctx.Err() != nil {
			return nil // told to stop before it was ready
		}
		return err
	}
	return s.run(ctx)
}

// service is the running program.
type service struct {
	settings config.Config
	log      *zap.Logger

	redis    redis.UniversalClient
	source   *tokens.Source
	proxy    *proxy.Proxy
	admin    *admin.Admin
	server   *http.Server // the proxy's
	listener net.Listener // the proxy's
	failed   chan error   // of either server
	closers  []func()     // in the order of opening
}

// start opens what the settings name, and returns when the proxy can serve.
func start(ctx context.Context, settings config.Config, log *zap.Logger) (*service, error) {
	s := &service{settings: settings, log: log, failed: make(chan error, 2)}
	if err := s.open(ctx); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *service) open(ctx context.Context) error {
	tlsConfig, faults := tlsConfig(s.settings)
	faults = append(faults, s.openRedis()...)
	if faults != nil {
		return faults
	}
	if err := s.listen(); err != nil {
		return err
	}
	if err := s.awaitRedis(ctx); err != nil {
		return err
	}
	if err := s.seed(ctx); err != nil {
		return err
	}
	s.serveProxy(tlsConfig)
	s.admin.Ready()
	return nil
}

// openRedis opens Redis, the embedded one if no other is set, and makes the
// source of credentials upon it.
func (s *service) openRedis() config.Faults {
	if s.settings.RedisURL.IsZero() {
		client, end := tokens.EmbeddedRedis()
		s.redis = client
		s.closers = append(s.closers, end)
		s.log.Warn("REDIS_URL is not set: tokens are kept in this process only, and are gone when it ends")
	} else {
		client, err := tokens.OpenRedis(s.settings.RedisURL)
		if err != nil {
			return config.Faults{{Name: "REDIS_URL", Problem: "is not understood, or has an option that go-redis does not know", Remedy: "give redis://, rediss:// or unix://, with ?master_name=…&addr=… for Sentinel, or further ?addr=… for Cluster"}}
		}
		s.redis = client
		s.closers = append(s.closers, func() { _ = client.Close() })
	}
	s.source = tokens.NewSource(tokens.Options{
		Redis:        s.redis,
		Prefix:       s.settings.RedisPrefix,
		App:          s.app(),
		RefreshAhead: s.settings.RefreshAhead,
		Local:        localCredential(s.settings),
		Log:          s.log,
	})
	s.closers = append(s.closers, s.closeSource)
	return nil
}

// app returns the HubSpot app of the settings, nil if there is none.
func (s *service) app() *hubspot.App {
	if s.settings.HubSpotClientID == "" {
		return nil
	}
	return &hubspot.App{
		ClientID:     s.settings.HubSpotClientID,
		ClientSecret: s.settings.HubSpotClientSecret,
		TokenURL:     s.settings.HubSpotTokenURL.String(),
		Client:       hubspot.NewClient(http.DefaultTransport, tokenTimeout),
	}
}

// listen binds both addresses before anything is waited for, so that one that
// is taken is told at once, and the operator's door is open from the start.
func (s *service) listen() error {
	listener, err := net.Listen("tcp", s.settings.ListenAddr)
	if err != nil {
		return fmt.Errorf("listen for the proxy, change LISTEN_ADDR if another program has the port: %w", err)
	}
	s.listener = listener
	s.closers = append(s.closers, func() { _ = listener.Close() })
	door, err := net.Listen("tcp", s.settings.AdminAddr)
	if err != nil {
		return fmt.Errorf("listen for the operator, change ADMIN_ADDR if another program has the port: %w", err)
	}
	s.admin = admin.New(admin.Options{RedisAnswers: s.source.RedisAnswers, Loopback: isLoopback(door)})
	server := s.admin.Server()
	s.closers = append(s.closers, func() { _ = server.Close() })
	go s.serving(func() error { return server.Serve(door) })
	return nil
}

// awaitRedis returns when Redis answers, or has not for too long.
func (s *service) awaitRedis(ctx context.Context) error {
	deadline := time.Now().Add(redisPatience)
	for told := false; ; told = true {
		err := tokens.CheckRedis(ctx, s.redis)
		switch {
		case errors.Is(err, tokens.ErrEvicts):
			s.log.Warn(err.Error())
			return nil
		case err == nil:
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("no answer from Redis within %v, check REDIS_URL and whether it can be reached from here: %w", redisPatience, err)
		case !told:
			s.log.Warn("Redis does not answer yet; trying on", zap.Duration("for", redisPatience), zap.Error(err))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// seed stores the portal that the environment has, if it has one with an id.
func (s *service) seed(ctx context.Context) error {
	if s.settings.HubSpotPortalID == "" {
		return nil
	}
	kind, value := credential(s.settings)
	_, err := s.source.Seed(ctx, tokens.Seed{Portal: s.settings.HubSpotPortalID, Kind: kind, Secret: value})
	return err
}

// serveProxy opens the proxy.
func (s *service) serveProxy(tlsConfig *tls.Config) {
	anonymous := isLoopback(s.listener)
	if s.settings.AllowAnonymous != nil {
		anonymous = *s.settings.AllowAnonymous
	}
	s.proxy = proxy.New(proxy.Options{
		Credentials:     s.source,
		Upstream:        s.settings.UpstreamURL,
		UpstreamTimeout: s.settings.UpstreamTimeout,
		UpstreamHTTP2:   s.settings.UpstreamHTTP2,
		RetryBodyLimit:  s.settings.RetryBodyLimit,
		RetryMemory:     s.settings.RetryMemory,
		DefaultPortal:   s.settings.Default(),
		ServePortals:    s.settings.ServePortals,
		AllowAnonymous:  anonymous,
		Loopback:        isLoopback(s.listener),
		AccessLog:       s.settings.AccessLog,
		Log:             s.log,
	})
	s.closers = append(s.closers, s.proxy.Close)
	server := s.proxy.Server()
	server.TLSConfig = tlsConfig
	s.server = server
	go s.serving(func() error {
		if tlsConfig != nil {
			return server.ServeTLS(s.listener, "", "")
		}
		return server.Serve(s.listener)
	})
	s.log.Info("the proxy is ready", zap.Stringer("address", s.listener.Addr()), zap.Stringer("upstream", s.settings.UpstreamURL),
		zap.String("default_portal", s.settings.Default()), zap.Strings("serve_portals", s.settings.ServePortals))
	if anonymous {
		s.log.Warn("callers need no client key: whoever reaches the address may use any portal")
	} else {
		s.log.Warn("all callers are refused: ALLOW_ANONYMOUS is not set, and the address is not loopback")
	}
}

// serving runs a server; that it fails ends the program.
func (s *service) serving(serve func() error) {
	if err := serve(); !errors.Is(err, http.ErrServerClosed) {
		s.failed <- err
	}
}

// run serves until ctx ends, or a server fails, and then ends in good order.
func (s *service) run(ctx context.Context) error {
	var failure error
	select {
	case <-ctx.Done():
	case failure = <-s.failed:
	}
	s.stop()
	return failure
}

// stop ends the service such that nobody notices.
func (s *service) stop() {
	// 1. Say so, that no new requests are sent here,
	s.admin.Stopping()
	s.log.Info("stopping", zap.Duration("delay", s.settings.ShutdownDelay), zap.Duration("timeout", s.settings.ShutdownTimeout))
	// 2. and serve those that are, until that has got about.
	time.Sleep(s.settings.ShutdownDelay)
	// 3. Take no more connections, and finish what is under way.
	ctx, cancel := context.WithTimeout(context.Background(), s.settings.ShutdownTimeout)
	defer cancel()
	if err := s.server.Shutdown(ctx); err != nil {
		s.log.Warn("requests that were still under way are broken off: SHUTDOWN_TIMEOUT is over")
		_ = s.server.Close()
	}
	// 4. Finish renewals, store what could not be stored, and close the rest.
	s.close()
	s.log.Info("stopped")
}

// close closes what was opened, in reverse order.
func (s *service) close() {
	for _, end := range slices.Backward(s.closers) {
		end()
	}
}

// closeSource waits for renewals, as long as a call of the token endpoint may
// take.
func (s *service) closeSource() {
	ctx, cancel := context.WithTimeout(context.Background(), tokenTimeout)
	defer cancel()
	if err := s.source.Close(ctx); err != nil {
		s.log.Error("a renewed token is lost, its portal may have to be connected again", zap.Error(err))
	}
}

// isLoopback reports whether the listener can be reached from this machine
// only. It is the socket that tells, not what it was opened with.
func isLoopback(listener net.Listener) bool {
	addr, ok := listener.Addr().(*net.TCPAddr)
	return ok && addr.IP.IsLoopback()
}

// credential returns the kind and value of the credential that the environment
// has, an empty one if it has none.
func credential(settings config.Config) (tokens.Kind, secret.Text) {
	switch {
	case !settings.HubSpotAccessToken.IsZero():
		return tokens.AccessToken, settings.HubSpotAccessToken
	case !settings.HubSpotAPIKey.IsZero():
		return tokens.APIKey, settings.HubSpotAPIKey
	default:
		return tokens.OAuth, settings.HubSpotRefreshToken
	}
}

// localCredential returns the environment's static credential if it came
// without a portal id, else nil.
func localCredential(settings config.Config) *tokens.Credential {
	kind, value := credential(settings)
	if value.IsZero() || settings.HubSpotPortalID != "" {
		return nil
	}
	return tokens.Static(settings.Default(), kind, value)
}
