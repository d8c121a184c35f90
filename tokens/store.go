package tokens

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bsm/redislock"
	"github.com/redis/go-redis/v9"

	"hubspot-auth-proxy/tokens/seal"
	"hubspot-auth-proxy/tokens/store"
)

// leaseTime is how long a lock outlives its holder.
const leaseTime = 3 * time.Second

// errNoRecord: Redis has answered, and there is no record.
var errNoRecord = errors.New("no record")

//go:embed write.lua
var writeScript string

var writeLua = redis.NewScript(writeScript)

// records reads and writes the records in Redis. A *store.Error of its methods
// never means that something is not there.
type records struct {
	redis  redis.UniversalClient
	prefix string
	ring   seal.Ring               // of the records' secrets
	epoch  *atomic.Pointer[string] // as last seen
}

// conflict is why a record was not written: what Redis has instead.
type conflict struct {
	generation int64 // 0 if there is no record, -1 if it is damaged
	state      state
}

func (c *conflict) Error() string {
	return fmt.Sprintf("the record has generation %d (%s)", c.generation, c.state)
}

// load returns the portal's record, or errNoRecord.
func (s records) load(ctx context.Context, portal string) (record, error) {
	ctx, cancel := context.WithTimeout(ctx, store.Timeout)
	defer cancel()
	fields, err := s.redis.HGetAll(ctx, s.portalKey(portal)).Result()
	if err != nil {
		return record{}, store.Failure("read from Redis", err)
	}
	if len(fields) == 0 {
		return record{}, errNoRecord
	}
	return parseRecord(portal, fields, s.ring)
}

// change is one write of a record.
type change struct {
	record   record
	expected int64  // the generation that is to be replaced, 0 if none
	replace  bool   // replace whatever there is, a tombstone too
	keep     bool   // keep the generation
	set      bool   // it does not follow from the former one; may replace a tombstone
	seed     string // hash of the value, if it is a seed
}

// write does the change and returns the record's generation, or a *conflict if
// Redis has another record than expected, or has had that seed.
func (s records) write(ctx context.Context, portal string, c change) (int64, error) {
	epoch := s.epoch.Load()
	if epoch == nil {
		asked, err := s.database().Epoch(ctx)
		if err != nil {
			return 0, err
		}
		epoch = &asked.ID
		s.epoch.Store(epoch)
	}
	ctx, cancel := context.WithTimeout(ctx, store.Timeout)
	defer cancel()
	expected, generation := strconv.FormatInt(c.expected, 10), "next"
	if c.replace {
		expected = "any"
	}
	switch {
	case c.keep:
		generation = "same"
	case c.set:
		generation = "set"
	}
	args := append([]any{expected, generation, c.seed, c.record.seeds, s.database().Channel(channelName, *epoch), portal, string(c.record.state)},
		c.record.fields(portal, s.ring)...)
	answer, err := writeLua.Run(ctx, s.redis, []string{s.portalKey(portal)}, args...).Slice()
	if err != nil {
		return 0, store.Failure("write to Redis", err)
	}
	return written(answer)
}

// database is what all parts of the program share in Redis.
func (s records) database() store.Database { return store.Database{Redis: s.redis, Prefix: s.prefix} }

// written takes apart the answer of the script that writes a record.
func written(answer []any) (generation int64, err error) {
	if len(answer) == 3 {
		done, isNumber := answer[0].(int64)
		generation, isToo := answer[1].(int64)
		found, isText := answer[2].(string)
		switch {
		case !isNumber || !isToo || !isText:
		case done == 1:
			return generation, nil
		default:
			return 0, &conflict{generation: generation, state: state(found)}
		}
	}
	return 0, store.Failure("write to Redis", store.ErrShape)
}

// burn notes that the nonce was used, for as long as life, and reports whether
// it was not before.
func (s records) burn(ctx context.Context, nonce string, life time.Duration) (first bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, store.Timeout)
	defer cancel()
	if first, err = s.redis.SetNX(ctx, s.prefix+"nonce:"+nonce, "", life).Result(); err != nil {
		return false, store.Failure("write to Redis", err)
	}
	return first, nil
}

// portals returns the ids of all portals that have a record, tombstones too.
func (s records) portals(ctx context.Context) ([]string, error) {
	var mu sync.Mutex // a Cluster's masters are asked at the same time
	var ids []string
	scan := func(ctx context.Context, client redis.Cmdable) error {
		keys := client.Scan(ctx, 0, globEscape.Replace(s.prefix)+"portal:{*}", 1000).Iterator()
		for keys.Next(ctx) {
			id := strings.TrimSuffix(strings.TrimPrefix(keys.Val(), s.prefix+"portal:{"), "}")
			mu.Lock()
			ids = append(ids, id)
			mu.Unlock()
		}
		return keys.Err()
	}
	var err error
	if cluster, ok := s.redis.(*redis.ClusterClient); ok {
		err = cluster.ForEachMaster(ctx, func(ctx context.Context, client *redis.Client) error { return scan(ctx, client) })
	} else {
		err = scan(ctx, s.redis)
	}
	if err != nil {
		return nil, store.Failure("read from Redis", err)
	}
	slices.SortFunc(ids, func(a, b string) int {
		return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) // as numbers
	})
	return slices.Compact(ids), nil // SCAN may give a key twice
}

// globEscape makes a prefix stand for itself in SCAN's pattern.
var globEscape = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`)

// lock takes the portal's lock for leaseTime, or returns
// redislock.ErrNotObtained if another holds it.
func (s records) lock(ctx context.Context, portal string) (*redislock.Lock, error) {
	ctx, cancel := context.WithTimeout(ctx, store.Timeout)
	defer cancel()
	return redislock.Obtain(ctx, s.redis, s.prefix+"lock:{"+portal+"}", leaseTime, nil)
}

func (s records) portalKey(portal string) string { return s.prefix + "portal:{" + portal + "}" }

// channelName is what the events' channel is called in each epoch.
const channelName = "events"
