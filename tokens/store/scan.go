package store

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// scanCount is the number of keys that Redis examines in one call of SCAN.
const scanCount = 1000

// Scan calls each with the ids of all portals that have a record, including tombstones. Each call
// has some of the ids, in no order. An id may occur twice. each is called by one goroutine at a time. An
// error of each ends the scan, and Scan returns it unchanged. Other errors are of type
// [*Error].
func (s *Store) Scan(ctx context.Context, each func(ids []string) error) error {
	return s.scan(ctx, s.portalKey("*"), func(keys []string) error {
		for i, key := range keys {
			keys[i] = strings.TrimSuffix(strings.TrimPrefix(key, s.Prefix+"portal:{"), "}")
		}
		return each(keys)
	})
}

// scan calls each with all keys that match pattern, as [Store.Scan] does with ids. pattern begins with
// the prefix, and "*" after the prefix matches any text.
func (s *Store) scan(ctx context.Context, pattern string, each func(keys []string) error) error {
	pattern = globEscape.Replace(s.Prefix) + strings.TrimPrefix(pattern, s.Prefix)
	var mu sync.Mutex // the masters of a Cluster are scanned at the same time
	scan := func(ctx context.Context, client redis.Cmdable) error {
		for cursor := uint64(0); ; {
			keys, next, err := client.Scan(ctx, cursor, pattern, scanCount).Result()
			if err != nil {
				return Failure("read from Redis", err)
			}
			mu.Lock()
			err = each(keys)
			mu.Unlock()
			if cursor = next; err != nil || cursor == 0 {
				return err
			}
		}
	}
	if cluster, ok := s.Redis.(*redis.ClusterClient); ok {
		err := cluster.ForEachMaster(ctx, func(ctx context.Context, client *redis.Client) error { return scan(ctx, client) })
		if _, is := errors.AsType[*Error](err); err == nil || ctx.Err() != nil || is {
			return err
		}
		return Failure("read from Redis", err) // the client does not know the Cluster's masters
	}
	return scan(ctx, s.Redis)
}

// globEscape escapes a prefix in a pattern of SCAN or of an ACL rule.
var globEscape = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`)

// A Loaded is the result of [Store.LoadAll] for one portal. Err is nil or an error that
// [Store.Load] can return. Err never means that Redis did not answer.
type Loaded struct {
	Portal string
	Record Record
	Err    error
}

// pipelined is the number of records that are read in one round trip.
const pipelined = 100

// LoadAll reads the records of many portals, in few round trips. The results have the order of
// portals. An error is an [*Error] and means that Redis did not answer.
func (s *Store) LoadAll(ctx context.Context, portals []string) ([]Loaded, error) {
	all := make([]Loaded, 0, len(portals))
	for some := range slices.Chunk(portals, pipelined) {
		loaded, err := s.loadSome(ctx, some)
		if err != nil {
			return nil, err
		}
		all = append(all, loaded...)
	}
	return all, nil
}

func (s *Store) loadSome(ctx context.Context, portals []string) ([]Loaded, error) {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	answers := make([]*redis.MapStringStringCmd, len(portals))
	if isEmbedded(s.Redis) {
		// A connection to an embedded Redis has no buffer, so a long pipeline would block.
		for i, portal := range portals {
			answers[i] = s.Redis.HGetAll(ctx, s.portalKey(portal))
		}
	} else {
		pipe := s.Redis.Pipeline()
		for i, portal := range portals {
			answers[i] = pipe.HGetAll(ctx, s.portalKey(portal))
		}
		_, _ = pipe.Exec(ctx) // each command has its own error
	}
	all := make([]Loaded, len(portals))
	for i, portal := range portals {
		r, err := s.record(portal, answers[i])
		if failure, is := errors.AsType[*Error](err); is && !failure.Answered() {
			return nil, failure
		}
		all[i] = Loaded{Portal: portal, Record: r, Err: err}
	}
	return all, nil
}
