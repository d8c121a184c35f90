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
	settings config.Config
	log      *zap.Logger

	redis    redis.UniversalClient
	endRedis func() error
	app      *hubspot.App // nil if the settings have none
	source   *tokens.Source
	clients  clients.Store

	notifier *notify.Notifier // nil if NOTIFY_URL is not set

	// notifyUntil is the time at which close stops sending queued notifications. Zero means
	// that close sends them for SHUTDOWN_TIMEOUT.
	notifyUntil time.Time
}

// settleTime is the time after the start of a server in which another replica stores what it renewed
// while Redis had failed. It is longer than the pauses between the replica's tries.
const settleTime = 5 * time.Second

// connect uses an opened Redis for the store. It does not wait for Redis. If metrics is nil,
// no metric is registered. rejected is [tokens.Options].Rejected.
func (s *store) connect(opened *openedRedis, metrics prometheus.Registerer, rejected func(context.Context, string)) {
	// Package tokens logs the errors of Redis; go-redis would log them again.
	redis.SetLogger(&logging.VoidLogger{})
	s.redis, s.endRedis, s.app = opened.client, opened.end, hubspotApp(s.settings)
	s.clients = clients.Store{Redis: s.redis, Prefix: s.settings.RedisPrefix}
	options := tokens.Options{
		Redis:        s.redis,
		Prefix:       s.settings.RedisPrefix,
		Keys:         s.settings.Keys(),
		App:          s.app,
		RefreshAhead: s.settings.RefreshAhead,
		Local:        localCredential(s.settings),
		Rejected:     rejected,
		Log:          s.log,
		Metrics:      metrics,
	}
	if metrics != nil && !s.settings.RedisURL.IsZero() { // the server, which may have replicas
		options.Settle = settleTime
	}
	if !s.settings.NotifyURL.IsZero() {
		s.notifier = notify.New(notify.Options{URL: s.settings.NotifyURL, Log: s.log, Metrics: metrics})
		options.GrantChanged = s.notifier.Changed
	}
	s.source = tokens.NewSource(options)
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
		ctx, cancel := context.WithDeadline(context.Background(), cmp.Or(s.notifyUntil, time.Now().Add(s.settings.ShutdownTimeout)))
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
