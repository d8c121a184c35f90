package store

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// scanCount is how many of its keys Redis goes through for one call of SCAN.
const scanCount = 1000

// Scan calls each with the ids of the portals that have a record, tombstones too,
// a part at a time and in no order. It may give an id twice. The error of each
// ends the scan, and is returned as it is.
func (s *Store) Scan(ctx context.Context, each func(ids []string) error) error {
	var mu sync.Mutex // a Cluster's masters are asked at the same time
	scan := func(ctx context.Context, client redis.Cmdable) error {
		for cursor := uint64(0); ; {
			keys, next, err := client.Scan(ctx, cursor, globEscape.Replace(s.Prefix)+"portal:{*}", scanCount).Result()
			if err != nil {
				return Failure("read from Redis", err)
			}
			for i, key := range keys {
				keys[i] = strings.TrimSuffix(strings.TrimPrefix(key, s.Prefix+"portal:{"), "}")
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
		if err == nil || ctx.Err() != nil || errors.As(err, new(*Error)) {
			return err
		}
		return Failure("read from Redis", err) // the Cluster's masters are not known
	}
	return scan(ctx, s.Redis)
}

// Portals returns the ids of all portals that have a record, tombstones too, in
// numerical order.
func (s *Store) Portals(ctx context.Context) ([]string, error) {
	var all []string
	err := s.Scan(ctx, func(ids []string) error {
		all = append(all, ids...)
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b string) int {
		return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) // as numbers
	})
	return slices.Compact(all), nil // SCAN may give a key twice
}

// globEscape makes a prefix stand for itself in SCAN's pattern.
var globEscape = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`)

// A Loaded is what [Store.LoadAll] has read of a portal. Its error is one of
// those of [Store.Load], except that of a Redis that does not answer.
type Loaded struct {
	Portal string
	Record Record
	Err    error
}

// pipelined is how many records are read in one round trip.
const pipelined = 100

// LoadAll reads the portals' records, many in a round trip. Its error means that
// Redis did not answer.
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
		// A connection to it has no buffer: a long pipeline would get stuck.
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
		if failure := (*Error)(nil); errors.As(err, &failure) && !failure.Answered() {
			return nil, failure
		}
		all[i] = Loaded{Portal: portal, Record: r, Err: err}
	}
	return all, nil
}

// record returns the record that Redis has answered with.
func (s *Store) record(portal string, answer *redis.MapStringStringCmd) (Record, error) {
	fields, err := answer.Result()
	switch {
	case err != nil:
		return Record{}, Failure("read from Redis", err)
	case len(fields) == 0:
		return Record{}, ErrNoRecord
	}
	return parseRecord(portal, fields, s.Keys())
}
