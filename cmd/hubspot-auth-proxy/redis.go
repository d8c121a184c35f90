package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"hubspot-auth-proxy/config"
	records "hubspot-auth-proxy/tokens/store"
	"hubspot-auth-proxy/tokens/store/statefile"
)

var errEmbedded = errors.New("neither REDIS_URL nor STATE_FILE is set: the proxy then keeps its data in its own memory, which commands cannot reach; " +
	"set REDIS_URL or STATE_FILE to the value that the proxy has, or use HUBSPOT_PORTAL_ID for one portal, and SEED_FILE for several and for clients")

// An openedRedis is a client of Redis, and the function end, which closes the client. An
// error of end means that the last changes are lost.
type openedRedis struct {
	client redis.UniversalClient
	end    func() error
}

// openRedis opens the Redis of the settings for serve. openRedis does not wait for an
// external Redis.
func openRedis(ctx context.Context, settings config.Config, log *zap.Logger) (*openedRedis, error) {
	if settings.StateFile != "" {
		return openState(ctx, records.EmbeddedIn, settings, "serve", log)
	}
	if settings.RedisURL.IsZero() {
		client, end := records.Embedded()
		return &openedRedis{client, func() error { end(); return nil }}, nil
	}
	return openURL(settings)
}

// joinRedis opens the Redis of the running proxies for a command. With STATE_FILE, this is
// the embedded Redis of the process that has the file open. If no process has the file
// open, joinRedis opens the file itself.
func joinRedis(ctx context.Context, settings config.Config, log *zap.Logger) (*openedRedis, error) {
	switch {
	case settings.StateFile != "":
		return openState(ctx, records.Join, settings, "a command", log)
	case settings.RedisURL.IsZero():
		return nil, errEmbedded
	}
	return openURL(settings)
}

// openURL opens the Redis of REDIS_URL.
func openURL(settings config.Config) (*openedRedis, error) {
	change, faults := redisTLS(settings)
	if faults != nil {
		return nil, faults
	}
	client, err := records.Open(settings.RedisURL, change)
	if err != nil {
		return nil, config.Faults{{Name: "REDIS_URL", Problem: "is malformed, or has an option that the program does not know", Remedy: "give a redis://, rediss:// or unix:// URL, with ?master_name=…&addr=… for Sentinel, or ?addr=… for each further node of a Cluster"}}
	}
	return &openedRedis{client, func() error { _ = client.Close(); return nil }}, nil // nothing is lost, because Redis has the data
}

// openState opens STATE_FILE with open, which is records.EmbeddedIn or records.Join. holder is
// the name that other processes see in the error that the file is in use.
func openState(ctx context.Context, open func(context.Context, string, statefile.Options) (redis.UniversalClient, func() error, error), settings config.Config, holder string, log *zap.Logger) (*openedRedis, error) {
	client, end, err := open(ctx, settings.StateFile, statefile.Options{Holder: program + " " + holder, Log: log})
	if fault, ok := errors.AsType[*statefile.Error](err); ok && !fault.InUse {
		return nil, config.Faults{{Name: "STATE_FILE", Problem: fault.Problem, Remedy: fault.Remedy}}
	}
	if err != nil {
		return nil, fmt.Errorf("STATE_FILE %w", err)
	}
	return &openedRedis{client, end}, nil
}
