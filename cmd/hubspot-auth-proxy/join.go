package main

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"hubspot-auth-proxy/cmd/hubspot-auth-proxy/seeding"
	records "hubspot-auth-proxy/tokens/store"
	"hubspot-auth-proxy/tokens/throttle"
)

const (
	// joinAtOnce is how long the start waits for Redis before the proxy serves
	// what needs none.
	joinAtOnce = time.Second

	// joinEvery is how often Redis is then tried.
	joinEvery = 500 * time.Millisecond
)

// joinAtOnce joins Redis if that takes no longer than a moment.
func (s *service) joinAtOnce(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, joinAtOnce)
	defer cancel()
	if err := s.join(ctx); err != nil {
		s.log.Warn("Redis does not answer yet; what needs it is answered with 503 until it does: check REDIS_URL and whether it can be reached from here", zap.Error(err))
		if s.needsNoRedis() {
			s.admin.Ready()
		}
	}
}

// join reads the clients from Redis and stores the settings' portals there. The
// proxy serves all portals from then on.
func (s *service) join(ctx context.Context) error {
	err := records.Check(ctx, s.redis)
	if errors.Is(err, records.ErrEvicts) {
		s.log.Warn(err.Error())
	} else if err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{s.warnOfRights, s.source.Begin, s.callers.Load, s.seeder.Apply} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	s.source.Joined()
	s.source.FollowAll()
	s.admin.Joined()
	s.joined = true
	return nil
}

// warnOfRights logs what the Redis user lacks, and again only if that changes. The error is one of Redis.
func (s *service) warnOfRights(ctx context.Context) error {
	missing, err := s.source.MissingRights(ctx)
	if len(missing) > 0 && !slices.Equal(missing, s.missingRights) {
		s.log.Warn("the Redis user lacks rights: add these rules by ACL SETUSER; without the channels, changes take effect within 10 s and not at once",
			zap.Strings("missing", missing))
	}
	s.missingRights = missing
	return err
}

// needsNoRedis reports whether the settings have all that this process is to
// serve: static credentials of the only portals, and clients that need no key.
func (s *service) needsNoRedis() bool {
	if s.settings.RedisURL.IsZero() {
		return true
	}
	return s.anonymous() && len(s.settings.ServePortals) > 0 && s.seeder.Static(s.settings.ServePortals)
}

// followSettings joins Redis if that is still to be done, and then goes on
// looking for changes of the seed file.
func (s *service) followSettings() {
	life, end := context.WithCancel(context.Background())
	var following sync.WaitGroup
	joined := s.joined
	following.Go(func() {
		if joined || s.joinLater(life) {
			s.seeder.Follow(life, s.pollSecrets)
		}
	})
	s.closers = append(s.closers, func() {
		end()
		following.Wait()
	})
}

// joinLater tries to join until that works, or ctx ends, and reports which.
func (s *service) joinLater(ctx context.Context) bool {
	began, polled := time.Now(), time.Now()
	throttled := throttle.Logger(s.log, throttle.Every)
	defer func() { _ = throttled.Sync() }()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(joinEvery):
		}
		if time.Since(polled) > seeding.PollInterval {
			polled = time.Now()
			s.pollSecrets()
			s.seeder.Refresh()
		}
		err := s.join(ctx)
		if err == nil {
			s.log.Info("the proxy is ready", zap.Stringer("address", s.listener.Addr()), zap.Stringer("admin", s.door.Addr()), zap.Duration("waited_for_redis", time.Since(began)))
			return true
		}
		if ctx.Err() == nil {
			throttled.Warn("the proxy still waits for Redis", zap.Error(err))
		}
	}
}
