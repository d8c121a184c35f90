package store

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"
)

// NoteKeys stores the ids of the keys with which this process opens secrets, for the commands; see
// [Store.NotedKeys]. The error is an [*Error].
func (s *Store) NoteKeys(ctx context.Context) error {
	own := s.Keys().IDs()
	noted, err := s.NotedKeys(ctx)
	if err != nil || slices.Equal(noted, own) {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	return Failure("write to Redis", s.Redis.Set(ctx, s.keyringKey(), strings.Join(own, ","), 0).Err())
}

// NotedKeys returns the ids of the keys with which a proxy that uses the database opens secrets: those
// of the proxy that has called NoteKeys last. The result is empty if no proxy has used the database.
// The error is an [*Error].
func (s *Store) NotedKeys(ctx context.Context) (ids []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	noted, err := s.Redis.Get(ctx, s.keyringKey()).Result()
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	if err != nil {
		return nil, Failure("read from Redis", err)
	}
	return strings.Split(noted, ","), nil
}

func (s *Store) keyringKey() string { return s.Prefix + "keyring" }
