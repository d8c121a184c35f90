package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"

	"go.uber.org/zap"

	"hubspot-auth-proxy/config"
	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspot"
	records "hubspot-auth-proxy/tokens/store"
)

var errEmbedded = errors.New("neither REDIS_URL nor STATE_FILE is set: the proxy keeps its data in its own memory, which no command reaches; " +
	"set the one that the proxy has, or give the proxy one portal by HUBSPOT_PORTAL_ID, several and clients by SEED_FILE")

// operate loads the settings and does what a command does with the Redis of
// the running proxies.
func (c *call) operate(ctx context.Context, do func(config.Config, *store) error) error {
	settings, err := config.Load(c.environ)
	if err != nil {
		return err
	}
	log, flush := newLogger(settings, c.stderr)
	defer flush()
	redis, err := joinRedis(ctx, settings, log)
	if err != nil {
		return err
	}
	s := openStore(settings, redis, log, nil, nil)
	defer s.close()
	// Asked once, so that one that is away is told in one line, and at once.
	if err := records.Check(ctx, s.redis); err != nil && !errors.Is(err, records.ErrEvicts) {
		return fmt.Errorf("no answer from Redis, check REDIS_URL and whether it can be reached from here: %w", err)
	}
	return do(settings, s)
}

// actor says for the log who does something.
func actor(what string) string {
	name, host := "somebody", "somewhere"
	if who, err := user.Current(); err == nil {
		name = who.Username
	}
	if here, err := os.Hostname(); err == nil {
		host = here
	}
	return fmt.Sprintf("%s by %s@%s", what, name, host)
}

// by is the log's field of who does something.
func by(what string) zap.Field { return zap.String("actor", actor(what)) }

// portalID returns an argument if it is a portal's id. The error does not
// repeat it: it may be a secret in the wrong place.
func portalID(arg, command string) (string, error) {
	if !hubspot.ValidPortal(arg) {
		return "", usageError{"that is not a portal's id: give its Hub ID, a number such as 62515", command}
	}
	return arg, nil
}

// notConnected says in the place of [tokens.ErrNotConnected] what to do.
func notConnected(id string, err error) error {
	if errors.Is(err, tokens.ErrNotConnected) {
		return fmt.Errorf("portal %s is not connected; portal set or portal link connects it, portal list names those that are", id)
	}
	return err
}
