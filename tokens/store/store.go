package store

import (
	"cmp"
	"context"
	"crypto/rand"
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"hubspot-auth-proxy/tokens/seal"
)

var (
	// ErrNoRecord means that Redis has answered and has no record of the portal.
	ErrNoRecord = errors.New("no record")

	// ErrConflict means that a record was not written, because Redis has another record
	// than the change expects. The errors that wrap it have the numbers of both records.
	ErrConflict = errors.New("another record of the portal is in Redis")
)

//go:embed write.lua
var writeScript string

var writeLua = redis.NewScript(writeScript)

// A Store reads and writes the records in Redis. [New] returns one; the zero value is not
// usable. A Store is safe for concurrent use. An [*Error] of its methods never means that
// something is not stored.
type Store struct {
	Database
	*Health
	process string // identifies this process in Redis
	ring    atomic.Pointer[seal.Ring]
	first   seal.Ring                  // the keys at the start
	epoch   atomic.Pointer[epochState] // nil means that no epoch was read yet
	polls   atomic.Bool                // Hints polls instead of subscribing
}

// New returns a store of the database's records, whose secrets ring seals and opens. From now
// on, every command of the database's client updates the store's Health, including commands of
// other packages. now is the clock of Health.
func New(d Database, ring seal.Ring, now func() time.Time) *Store {
	s := &Store{Database: d, Health: &Health{now: now}, process: rand.Text(), first: ring}
	s.ring.Store(&ring)
	d.Redis.AddHook(s.Health)
	return s
}

// Keys returns the ring with which secrets are sealed and opened now.
func (s *Store) Keys() seal.Ring { return *s.ring.Load() }

// Opening makes the store also open secrets that the keys have sealed. The store seals as
// before.
func (s *Store) Opening(keys seal.Ring) {
	next := s.first.Opening(keys)
	s.ring.Store(&next)
}

// Load returns the portal's record. The error is [ErrNoRecord] if there is none, and an
// [*Error] if Redis did not answer. Other errors mean that the record is damaged, is of a newer
// version ([*NewerError]), or that its secrets cannot be opened.
func (s *Store) Load(ctx context.Context, portal string) (Record, error) {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	return s.record(portal, s.Redis.HGetAll(ctx, s.portalKey(portal)))
}

// Numbering is the way in which a written record gets its grant and generation.
type Numbering string

const (
	// Set gives new numbers to a portal that was set, connected or removed.
	Set Numbering = "set"

	// Seeding gives new numbers to a seed. If Redis has no record, the numbers are
	// older than all others, because the seed may have been applied before Redis lost
	// its data.
	Seeding Numbering = "seed"

	// Renew gives a new generation to the next credential of a grant.
	Renew Numbering = "renew"

	// Keep keeps the record's numbers.
	Keep Numbering = "keep"
)

// A Change is one write of a record.
type Change struct {
	Record    Record
	Numbering Numbering

	// Replaces is the record that Redis must have for the write to happen. nil means
	// that Redis must have none. Always and Force have precedence over Replaces.
	Replaces *Record

	// Always makes the write replace any record except one of a newer schema.
	Always bool

	// Force makes the write replace any record.
	Force bool

	// Seed is the hash of the seed. Empty means that the record is not a seed.
	Seed string
}

// expected returns the argument that the script compares with the record in Redis.
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

// Write writes a record and publishes the change. It returns the record with its new numbers.
// The error is [ErrConflict] if Redis has another record than c expects, or if the same seed was
// stored before. It is a [*NewerError] if the record in Redis is of a newer version, and otherwise
// an [*Error].
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
	answer, err := writeLua.Run(ctx, s.Redis, []string{s.portalKey(portal)}, args...).Int64Slice()
	if err != nil {
		return Record{}, Failure("write to Redis", err)
	}
	return c.written(answer)
}

// written returns the record with the numbers of the script's answer.
func (c Change) written(answer []int64) (Record, error) {
	r := c.Record
	switch {
	case len(answer) == 3 && answer[0] == 1:
		r.Grant, r.Generation = answer[1], answer[2]
		return r, nil
	case len(answer) == 2 && answer[0] == 2:
		return Record{}, &NewerError{Schema: strconv.FormatInt(answer[1], 10)}
	case len(answer) == 4 && answer[0] == 0 && answer[3] >= 0 && answer[3] <= 3:
		return Record{}, c.conflict(Record{Grant: answer[1], Generation: answer[2], State: [...]State{"", Active, Ended, Removed}[answer[3]]})
	}
	return Record{}, Failure("write to Redis", ErrShape)
}

// conflict returns the error for the record that Redis has instead of the expected one. The
// generation -1 means that the numbers of found are damaged.
func (c Change) conflict(found Record) error {
	expected := "no record"
	if c.Replaces != nil {
		expected = c.Replaces.numbers()
	}
	return fmt.Errorf("%w: %s, where %s was expected", ErrConflict, found.numbers(), expected)
}

// numbers returns what identifies a record for an operator.
func (r Record) numbers() string {
	return fmt.Sprintf("grant %d, generation %d (%s)", r.Grant, r.Generation, cmp.Or(r.State, "no state"))
}

// Burn stores that the nonce was used, and reports whether this was the first use. Redis forgets
// the nonce after ttl, which must be at least the time for which the nonce is valid. The error
// is an [*Error].
func (s *Store) Burn(ctx context.Context, nonce string, ttl time.Duration) (first bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	first, err = s.Redis.SetNX(ctx, s.Prefix+"nonce:"+nonce, "", ttl).Result()
	return first, Failure("write to Redis", err)
}

func (s *Store) portalKey(portal string) string { return s.Prefix + "portal:{" + portal + "}" }

// record parses the answer of HGETALL.
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
