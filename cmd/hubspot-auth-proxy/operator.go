package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
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
	return fmt.Errorf("no answer from Redis; %s: %w", checkRedis(settings, err), err)
}

// checkRedis returns what to check after an error of the Redis of REDIS_URL.
func checkRedis(settings config.Config, err error) string {
	scheme, _, _ := strings.Cut(settings.RedisURL.Reveal(), "://")
	failed, _ := errors.AsType[*records.Error](err)
	operation, _ := errors.AsType[*net.OpError](err)
	_, untrusted := errors.AsType[*tls.CertificateVerificationError](err)
	switch {
	case failed != nil && (failed.Code == "WRONGPASS" || failed.Code == "NOAUTH"):
		return "check the user and the password in REDIS_URL"
	case untrusted:
		return "check the host in REDIS_URL, and REDIS_TLS_CA_FILE"
	case failed != nil && failed.Code != "", operation != nil && operation.Op == "dial":
	case scheme == "rediss":
		return "check REDIS_URL, whether Redis runs, and whether that port of Redis uses TLS: without TLS, the URL must begin with redis://"
	case scheme == "redis":
		return "check REDIS_URL, whether Redis runs, and whether that port of Redis uses TLS: with TLS, the URL must begin with rediss://"
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
