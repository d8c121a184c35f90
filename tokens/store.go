package tokens

import (
	"cmp"
	"context"
	"crypto/rand"
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/bsm/redislock"
	"github.com/redis/go-redis/v9"

	"hubspot-auth-proxy/tokens/seal"
)

// redisTimeout is how long one operation of Redis may take. With less, a slow
// Redis would be taken for one that is away; with more, a stopped one would
// keep a renewal from being done without it in time.
const redisTimeout = 3 * time.Second

// leaseTime is how long a lock outlives its holder.
const leaseTime = 3 * time.Second

// A redisError says that Redis did not answer as it should. It says nothing of
// what is stored there.
type redisError struct {
	what string
	err  error
}

// Error cuts off the arguments that a server quotes of a command that it does
// not know: a password may be among them.
func (e *redisError) Error() string {
	text, _, _ := strings.Cut(e.err.Error(), ", with args")
	return e.what + ": " + text
}

func (e *redisError) Unwrap() error { return e.err }

// replied reports whether Redis answered with an error of its own, which is
// about what it was asked for rather than about Redis itself.
func (e *redisError) replied() bool {
	var reply redis.Error
	if !errors.As(e.err, &reply) {
		return false
	}
	for _, prefix := range []string{"LOADING", "MASTERDOWN", "CLUSTERDOWN", "NOAUTH", "WRONGPASS"} {
		if strings.HasPrefix(reply.Error(), prefix) {
			return false
		}
	}
	return true
}

// ofRecord reports whether Redis answered that the key is none of a record:
// that is one portal's trouble, which others have no part in.
func (e *redisError) ofRecord() bool { return redis.HasErrorPrefix(e.err, "WRONGTYPE") }

// errNoRecord: Redis has answered, and there is no record.
var errNoRecord = errors.New("no record")

//go:embed write.lua
var writeScript string

var writeLua = redis.NewScript(writeScript)

// store reads and writes the records in Redis. A *redisError of its methods
// never means that something is not there.
type store struct {
	redis  redis.UniversalClient
	prefix string
	ring   seal.Ring // of the records' secrets
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
func (s store) load(ctx context.Context, portal string) (record, error) {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	fields, err := s.redis.HGetAll(ctx, s.portalKey(portal)).Result()
	if err != nil {
		return record{}, &redisError{"read from Redis", err}
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
func (s store) write(ctx context.Context, portal string, c change) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
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
	args := append([]any{expected, generation, c.seed, c.record.seeds, s.channel(), portal, string(c.record.state)},
		c.record.fields(portal, s.ring)...)
	answer, err := writeLua.Run(ctx, s.redis, []string{s.portalKey(portal)}, args...).Slice()
	if err != nil {
		return 0, &redisError{"write to Redis", err}
	}
	written, _ := answer[0].(int64)
	found, _ := answer[1].(int64)
	if written != 1 {
		state0, _ := answer[2].(string)
		return 0, &conflict{generation: found, state: state(state0)}
	}
	return found, nil
}

// epoch returns the random value that says which of its lives Redis is in, and
// begins a new one if there is none. epochBegan tells when it began.
func (s store) epoch(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	key := s.prefix + "epoch"
	epoch, err := s.redis.Get(ctx, key).Result()
	if errors.Is(err, redis.Nil) {
		if err := s.beginEpoch(ctx, key); err != nil {
			return "", &redisError{"write to Redis", err}
		}
		epoch, err = s.redis.Get(ctx, key).Result()
	}
	if err != nil {
		return "", &redisError{"read from Redis", err}
	}
	return epoch, nil
}

func (s store) beginEpoch(ctx context.Context, key string) error {
	now, err := s.redis.Time(ctx).Result()
	if err != nil {
		return err
	}
	return s.redis.SetNX(ctx, key, micros(now)+"-"+rand.Text(), 0).Err()
}

// epochBegan returns when an epoch began by Redis' clock; zero: it does not tell,
// for it was made by a version that did not note it.
func epochBegan(epoch string) time.Time {
	us, _, _ := strings.Cut(epoch, "-")
	began, err := parseMicros(us)
	if err != nil {
		return time.Time{}
	}
	return began
}

// burn notes that the nonce was used, for as long as life, and reports whether
// it was not before.
func (s store) burn(ctx context.Context, nonce string, life time.Duration) (first bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	if first, err = s.redis.SetNX(ctx, s.prefix+"nonce:"+nonce, "", life).Result(); err != nil {
		return false, &redisError{"write to Redis", err}
	}
	return first, nil
}

// portals returns the ids of all portals that have a record, tombstones too.
func (s store) portals(ctx context.Context) ([]string, error) {
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
		return nil, &redisError{"read from Redis", err}
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
func (s store) lock(ctx context.Context, portal string) (*redislock.Lock, error) {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	return redislock.Obtain(ctx, s.redis, s.prefix+"lock:{"+portal+"}", leaseTime, nil)
}

func (s store) portalKey(portal string) string { return s.prefix + "portal:{" + portal + "}" }

func (s store) channel() string { return s.prefix + "events" }
