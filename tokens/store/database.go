package store

import (
	"context"
	"crypto/rand"
	_ "embed"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Timeout is how long one operation of Redis may take. With less, a slow Redis
// would count as unreachable; with more, a stopped one would delay the renewals
// that are done without it.
const Timeout = 3 * time.Second

// A Database is what one prefix holds in one Redis database. It is a value,
// safe for concurrent use.
type Database struct {
	// Redis is closed by its owner.
	Redis redis.UniversalClient

	// Prefix begins every key and channel.
	Prefix string
}

// An Epoch is one life of a database, from the time when it was empty.
type Epoch struct {
	// ID has a random part. Another one than before means that the database
	// has lost its data.
	ID string

	// New reports that Redis had none before it was asked.
	New bool
}

// Began returns when the epoch began by Redis' clock; zero if that is not known,
// because a version made it that did not note it.
func (e Epoch) Began() time.Time {
	us, _, _ := strings.Cut(e.ID, "-")
	began, err := strconv.ParseInt(us, 10, 64)
	if err != nil {
		return time.Time{}
	}
	return time.UnixMicro(began)
}

//go:embed epoch.lua
var epochScript string

var epochLua = redis.NewScript(epochScript)

const readEpoch = "read the epoch from Redis"

// Epoch returns the database's epoch, and begins one if there is none.
func (d Database) Epoch(ctx context.Context) (Epoch, error) {
	limited, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	id, err := d.Redis.Get(limited, d.epochKey()).Result()
	switch {
	case errors.Is(err, redis.Nil):
		return d.beginEpoch(ctx)
	case err != nil:
		return Epoch{}, Failure(readEpoch, err)
	}
	return Epoch{ID: id}, nil
}

func (d Database) beginEpoch(ctx context.Context) (Epoch, error) {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	answer, err := epochLua.Run(ctx, d.Redis, []string{d.epochKey()}, rand.Text()).Slice()
	if err == nil && len(answer) != 2 {
		err = ErrShape
	}
	if err != nil {
		return Epoch{}, Failure("write the epoch to Redis", err)
	}
	id, isText := answer[0].(string)
	made, isNumber := answer[1].(int64)
	if !isText || !isNumber {
		return Epoch{}, Failure("write the epoch to Redis", ErrShape)
	}
	return Epoch{ID: id, New: made == 1}, nil
}

func (d Database) epochKey() string { return d.Prefix + "epoch" }

// Channel returns the name of a channel in an epoch. No other database has the
// same. A user learns the name by reading the database's keys, or by PUBSUB
// CHANNELS; a message is a hint to read, so that the name need not be a secret.
func (d Database) Channel(name, epoch string) string { return d.Prefix + name + ":" + epoch }
