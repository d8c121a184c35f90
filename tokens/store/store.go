package store

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"hubspot-auth-proxy/tokens/seal"
)

// ErrNoRecord: Redis has answered, and there is no record of the portal.
var ErrNoRecord = errors.New("no record")

//go:embed write.lua
var writeScript string

var writeLua = redis.NewScript(writeScript)

// A Store reads and writes the records in Redis. Make it with [New]; it is safe
// for concurrent use. An [*Error] of its methods never means that something is
// not there.
type Store struct {
	Database
	*Health
	ring  atomic.Pointer[seal.Ring]
	first seal.Ring // of the start
	epoch atomic.Pointer[seen]
	polls atomic.Bool // for changes, in place of a subscription
}

// New returns a store of what the database holds, whose secrets the ring seals.
// What the client of Redis does from now on, for whomever, tells the store
// whether Redis answers; now is the clock for that.
func New(d Database, ring seal.Ring, now func() time.Time) *Store {
	s := &Store{Database: d, Health: &Health{now: now}, first: ring}
	s.ring.Store(&ring)
	d.Redis.AddHook(s.Health)
	return s
}

// Keys returns what the records' secrets are sealed and opened with.
func (s *Store) Keys() seal.Ring { return *s.ring.Load() }

// Opening makes the store open what other keys have sealed. It seals as before.
func (s *Store) Opening(keys seal.Ring) {
	next := s.first.Opening(keys)
	s.ring.Store(&next)
}

// A Conflict is why a record was not written: what Redis has instead.
type Conflict struct {
	grant, generation int64 // generation is -1 if the record is damaged
	state             State
}

// Error says what Redis has.
func (c *Conflict) Error() string {
	return fmt.Sprintf("the record is another one: grant %d, generation %d (%s)", c.grant, c.generation, c.state)
}

// A NewerError says that a newer version of the program has written the record. It
// is neither used nor replaced.
type NewerError struct{ Schema string }

// Error names both versions of the layout.
func (e *NewerError) Error() string {
	return fmt.Sprintf("the record has schema %q, of a newer version of this program, which itself knows schema %q: run the newer version", e.Schema, schema)
}

// Load returns the portal's record, or [ErrNoRecord]. Any other error than an
// [*Error] means that the record is damaged, or that its secrets do not open.
func (s *Store) Load(ctx context.Context, portal string) (Record, error) {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	return s.record(portal, s.Redis.HGetAll(ctx, s.portalKey(portal)))
}

// Numbering is how a written record gets its grant and generation.
type Numbering string

const (
	// Set is for a credential that does not follow from the former one: it was
	// set, connected or removed.
	Set Numbering = "set"

	// Seeding is for one of the settings. If there is no record, nobody knows
	// whether it was seeded before: it is older than anything else then.
	Seeding Numbering = "seed"

	// Renew is for the next credential of a grant.
	Renew Numbering = "renew"

	// Keep is for a record that has its numbers.
	Keep Numbering = "keep"
)

// A Change is one write of a record.
type Change struct {
	Record    Record
	Numbering Numbering

	// Replaces is the record that Redis must have; nil: none. With Always, it
	// does not matter what there is, except for a record of a newer schema, which
	// only Force replaces.
	Replaces *Record
	Always   bool
	Force    bool

	// Seed is the hash of the value, if that is a seed.
	Seed string
}

// expected is what the script compares with what there is.
func (c Change) expected() string {
	switch {
	case c.Force:
		return "force"
	case c.Always:
		return "any"
	case c.Replaces == nil:
		return "0 0 "
	default:
		return fmt.Sprintf("%d %d %s", c.Replaces.Grant, c.Replaces.Generation, c.Replaces.State)
	}
}

// Write does the change, and publishes it. It returns the record with the
// numbers that it got. The error is a [*Conflict] if Redis has another record
// than expected, or has had that seed.
func (s *Store) Write(ctx context.Context, portal string, c Change) (Record, error) {
	epoch, err := s.knownEpoch(ctx)
	if err != nil {
		return Record{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	r := c.Record
	args := append([]any{
		c.expected(), string(c.Numbering), strconv.FormatInt(r.Grant, 10), strconv.FormatInt(r.Generation, 10),
		c.Seed, r.Seeds, s.Channel(eventsName, epoch), portal,
	}, r.fields(portal, s.Keys())...)
	answer, err := writeLua.Run(ctx, s.Redis, []string{s.portalKey(portal)}, args...).Slice()
	if err != nil {
		return Record{}, Failure("write to Redis", err)
	}
	return r.written(answer)
}

// written takes in what the script that writes a record has answered.
func (r Record) written(answer []any) (Record, error) {
	if len(answer) != 4 {
		return Record{}, Failure("write to Redis", ErrShape)
	}
	done, isNumber := answer[0].(int64)
	grant, isGrant := answer[1].(int64)
	generation, isGeneration := answer[2].(int64)
	state, isText := answer[3].(string)
	switch {
	case !isNumber || !isGrant || !isGeneration || !isText:
		return Record{}, Failure("write to Redis", ErrShape)
	case done != 1 && strings.HasPrefix(state, "schema "):
		return Record{}, &NewerError{Schema: strings.TrimPrefix(state, "schema ")}
	case done != 1:
		return Record{}, &Conflict{grant: grant, generation: generation, state: State(state)}
	}
	r.Grant, r.Generation = grant, generation
	return r, nil
}

// Burn notes that the nonce was used, for as long as life, and reports whether
// it was not before.
func (s *Store) Burn(ctx context.Context, nonce string, life time.Duration) (first bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	first, err = s.Redis.SetNX(ctx, s.Prefix+"nonce:"+nonce, "", life).Result()
	return first, Failure("write to Redis", err)
}

func (s *Store) portalKey(portal string) string { return s.Prefix + "portal:{" + portal + "}" }
