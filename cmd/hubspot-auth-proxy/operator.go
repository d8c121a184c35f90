package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strings"

	"go.uber.org/zap"

	"hubspot-auth-proxy/config"
	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspot"
	records "hubspot-auth-proxy/tokens/store"
)

// operate loads the settings, opens the Redis of the running proxies, and calls do.
func (c *call) operate(ctx context.Context, do func(*store) error) error {
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
	s := &store{settings: settings, log: log}
	s.connect(redis, nil, nil)
	defer s.close()
	// This check reports an unreachable Redis at once, in one line.
	if err := records.Check(ctx, s.redis); err != nil && !errors.Is(err, records.ErrEvicts) {
		return unanswered(settings, err)
	}
	return do(s)
}

// unanswered returns the error for a Redis that does not answer, with what to do.
func unanswered(settings config.Config, err error) error {
	if settings.StateFile != "" {
		return fmt.Errorf("no answer from the process that uses STATE_FILE; check that process, which the file STATE_FILE.lock names: %w", err)
	}
	return fmt.Errorf("no answer from Redis; %s: %w", checkRedis(settings), err)
}

// checkRedis returns what to check if the Redis of REDIS_URL does not answer.
func checkRedis(settings config.Config) string {
	if strings.HasPrefix(settings.RedisURL.Reveal(), "rediss://") {
		return "check REDIS_URL, and whether this machine can reach Redis, and whether that port of Redis uses TLS: rediss:// needs TLS, and redis:// is without TLS"
	}
	return "check REDIS_URL, and whether this machine can reach Redis"
}

// actor returns who makes a change, for the log: "portal set by ann@laptop".
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

// by returns the log's field actor.
func by(what string) zap.Field { return zap.String("actor", actor(what)) }

// portalID returns the argument if it is a portal id. The error does not quote the
// argument, because the argument may be a secret that was given in the wrong place.
func portalID(arg string) (string, error) {
	if !hubspot.ValidPortal(arg) {
		return "", usageError{problem: "ID is not a portal id: give the Hub ID, a number such as 62515"}
	}
	return arg, nil
}

// notConnected replaces [tokens.ErrNotConnected] by an error that says what to do.
func notConnected(id string, err error) error {
	if errors.Is(err, tokens.ErrNotConnected) {
		return fmt.Errorf("portal %s is not connected; connect it with portal set or portal link; portal list prints the connected portals", id)
	}
	return err
}
