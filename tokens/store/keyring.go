package store

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// noteLife is the time after which Redis forgets a note of NoteKeys.
const noteLife = time.Minute

// NoteEvery is the interval at which a proxy must call [Store.NoteKeys] so that its note stays in
// Redis. A note outlasts three calls that fail.
const NoteEvery = noteLife / 4

// NoteKeys stores the ids of the keys with which this process opens secrets, for the commands; see
// [Store.NotedKeys]. The error is an [*Error].
func (s *Store) NoteKeys(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	return Failure("write to Redis", s.Redis.Set(ctx, s.noteKey(s.process), strings.Join(s.Keys().IDs(), ","), noteLife).Err())
}

// ForgetKeys deletes the note of this process. The error is an [*Error].
func (s *Store) ForgetKeys(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	return Failure("write to Redis", s.Redis.Del(ctx, s.noteKey(s.process)).Err())
}

// NotedKeys returns the ids of the keys with which proxies open secrets, one element for each
// process that has called NoteKeys within the last minute, and not ForgetKeys since. The error is an
// [*Error].
func (s *Store) NotedKeys(ctx context.Context) (notes [][]string, err error) {
	var keys []string
	err = s.scan(ctx, s.noteKey("*"), func(some []string) error {
		keys = append(keys, some...)
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.Sort(keys)
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	for _, key := range slices.Compact(keys) {
		note, err := s.Redis.Get(ctx, key).Result()
		switch {
		case errors.Is(err, redis.Nil): // it has expired since the scan
		case err != nil:
			return nil, Failure("read from Redis", err)
		default:
			notes = append(notes, strings.Split(note, ","))
		}
	}
	return notes, nil
}

// noteKey returns the key of a process's note. Each note is a key of its own, because only whole keys
// expire.
func (s *Store) noteKey(process string) string { return s.Prefix + "keyring:" + process }
