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
	// joinTimeout is how long the start waits for Redis. After joinTimeout the proxy
	// serves the calls that do not need Redis.
	joinTimeout = time.Second

	// joinInterval is the pause between two tries to reach Redis after joinTimeout.
	joinInterval = 500 * time.Millisecond
)

// joinAtOnce tries to join Redis for at most joinTimeout. A failure is logged. The
// goroutine of followSettings then tries again.
func (s *service) joinAtOnce(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	if err := s.join(ctx); err != nil {
		s.log.Warn("Redis does not answer yet: calls that need it get 503 until it answers; "+checkRedis(s.settings, err), zap.Error(err))
		if s.needsNoRedis() {
			s.admin.Ready()
		}
	}
}

// join reads the clients from Redis, and stores the portals of the settings in Redis.
// When join returns nil, the proxy serves all portals. After an error join can be called
// again.
func (s *service) join(ctx context.Context) error {
	err := records.Check(ctx, s.redis)
	if errors.Is(err, records.ErrEvicts) {
		s.log.Warn(err.Error())
	} else if err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{s.warnOfRights, s.source.Begin, s.clientSet.Load, s.seeder.Apply} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	s.source.Joined()
	s.source.FollowAll()
	s.source.NoteKeys()
	s.admin.Joined()
	s.joined = true
	return nil
}

// warnOfRights logs the rights that the Redis user lacks. If the missing rights are those
// that were logged last, they are not logged again. An error means that a Redis command
// failed.
func (s *service) warnOfRights(ctx context.Context) error {
	missing, err := s.source.MissingRights(ctx)
	if len(missing) > 0 && !slices.Equal(missing, s.missingRights) {
		s.log.Warn("the Redis user lacks rights: add these rules with ACL SETUSER; without the rights to channels, changes take effect within 10 s instead of at once",
			zap.Strings("missing", missing))
	}
	s.missingRights = missing
	return err
}

// needsNoRedis reports whether this process can serve all its calls without an external
// Redis. Without REDIS_URL, the answer is always true. With REDIS_URL, the process must
// serve only portals with static credentials in the settings, and clients must need no
// keys.
func (s *service) needsNoRedis() bool {
	if s.settings.RedisURL.IsZero() {
		return true
	}
	return s.anonymous() && len(s.settings.ServePortals) > 0 && s.seeder.Static(s.settings.ServePortals)
}

// followSettings starts a goroutine, and returns. The goroutine joins Redis if the start
// has not joined Redis, and then polls the seed file until the service closes.
func (s *service) followSettings() {
	ctx, cancel := context.WithCancel(context.Background())
	var following sync.WaitGroup
	joined := s.joined
	following.Go(func() {
		if joined || s.joinLater(ctx) {
			s.warnOfNoPortal(ctx)
			s.warnOfNoClient()
			s.seeder.Follow(ctx, s.pollSecrets)
		}
	})
	s.closers = append(s.closers, func() {
		cancel()
		following.Wait()
	})
}

// joinLater tries to join Redis until a try succeeds or ctx ends. It returns true if a try
// has succeeded.
func (s *service) joinLater(ctx context.Context) bool {
	began, polled := time.Now(), time.Now()
	throttled := throttle.Logger(s.log, throttle.Every)
	defer func() { _ = throttled.Sync() }()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(joinInterval):
		}
		if time.Since(polled) > seeding.PollInterval {
			polled = time.Now()
			s.pollSecrets()
			s.seeder.Refresh()
		}
		err := s.join(ctx)
		if err == nil {
			s.log.Info("the proxy is ready", zap.Stringer("address", s.listener.Addr()), zap.Stringer("admin", s.adminListener.Addr()), zap.Stringer("waited_for_redis", time.Since(began).Round(time.Millisecond)))
			return true
		}
		if ctx.Err() == nil {
			throttled.Warn("the proxy still waits for Redis to answer", zap.Error(err))
		}
	}
}
