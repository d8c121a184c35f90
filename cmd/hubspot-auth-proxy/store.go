package main

import (
	"cmp"
	"context"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"go.uber.org/zap"

	"hubspot-auth-proxy/config"
	"hubspot-auth-proxy/proxy/clients"
	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspot"
	"hubspot-auth-proxy/tokens/notify"
	"hubspot-auth-proxy/tokens/secret"
)

// tokenTimeout is how long a call of HubSpot's token endpoint may take.
const tokenTimeout = 15 * time.Second

// A store is Redis and its contents, for serve and for the commands.
type store struct {
	redis   redis.UniversalClient
	app     *hubspot.App // nil if the settings have none
	source  *tokens.Source
	clients clients.Store

	log      *zap.Logger
	endRedis func() error

	notifier      *notify.Notifier // nil if NOTIFY_URL is not set
	notifyTimeout time.Duration    // how long close sends the notifications that are still queued
	notifyUntil   time.Time        // when that time ends; zero means that it begins with close
}

// openStore returns the store of an opened Redis. It does not wait for Redis. If metrics is
// nil, no metric is registered. rejected is [tokens.Options].Rejected.
func openStore(settings config.Config, opened *openedRedis, log *zap.Logger, metrics prometheus.Registerer, rejected func(context.Context, string)) *store {
	// Package tokens logs the errors of Redis; go-redis would log them again.
	redis.SetLogger(&logging.VoidLogger{})
	s := &store{app: hubspotApp(settings), log: log, redis: opened.client, endRedis: opened.end, notifyTimeout: settings.ShutdownTimeout}
	s.clients = clients.Store{Redis: s.redis, Prefix: settings.RedisPrefix}
	options := tokens.Options{
		Redis:        s.redis,
		Prefix:       settings.RedisPrefix,
		Keys:         settings.Keys(),
		App:          s.app,
		RefreshAhead: settings.RefreshAhead,
		Local:        localCredential(settings),
		Rejected:     rejected,
		Log:          log,
		Metrics:      metrics,
	}
	if !settings.NotifyURL.IsZero() {
		s.notifier = notify.New(notify.Options{URL: settings.NotifyURL, Log: log, Metrics: metrics})
		options.GrantChanged = s.notifier.Changed
	}
	s.source = tokens.NewSource(options)
	return s
}

// close waits for renewals under way, for at most tokenTimeout, closes Redis, and sends the queued
// notifications.
func (s *store) close() {
	ctx, cancel := context.WithTimeout(context.Background(), tokenTimeout)
	defer cancel()
	if err := s.source.Close(ctx); err != nil {
		s.log.Error("a renewed token could not be stored, and is lost; its portal may have to be connected again", zap.Error(err))
	}
	if err := s.endRedis(); err != nil {
		s.log.Error("the last counts of calls are lost: STATE_FILE cannot be written", zap.Error(err))
	}
	if s.notifier != nil { // last, because a slow address must not keep another process from STATE_FILE
		ctx, cancel := context.WithDeadline(context.Background(), cmp.Or(s.notifyUntil, time.Now().Add(s.notifyTimeout)))
		defer cancel()
		_ = s.notifier.Close(ctx) // the notifier logs each failure
	}
}

// hubspotApp returns the HubSpot app of the settings, or nil if the settings have none.
func hubspotApp(settings config.Config) *hubspot.App {
	if settings.HubSpotClientID == "" {
		return nil
	}
	return &hubspot.App{
		ClientID:     settings.HubSpotClientID,
		ClientSecret: settings.HubSpotClientSecret,
		TokenURL:     settings.HubSpotTokenURL.String(),
		Client:       hubspot.NewClient(http.DefaultTransport, tokenTimeout),
	}
}

// credential returns the kind and the value of the environment's credential. The value is
// empty if the environment has none.
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

// environmentSeeds returns the portal of the environment; nil if HUBSPOT_PORTAL_ID is not set.
func environmentSeeds(settings config.Config) []tokens.Seed {
	if settings.HubSpotPortalID == "" {
		return nil
	}
	kind, value := credential(settings)
	return []tokens.Seed{{Portal: settings.HubSpotPortalID, Kind: kind, Secret: value}}
}

// localCredential returns the environment's static credential if it has no portal id; else nil.
func localCredential(settings config.Config) *tokens.Credential {
	kind, value := credential(settings)
	if value.IsZero() || settings.HubSpotPortalID != "" {
		return nil
	}
	return tokens.Static(settings.Default(), kind, value)
}
