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

// Timeout limits each operation of Redis. With a shorter timeout, a slow Redis would count as
// unreachable. With a longer timeout, a Redis that has stopped would delay renewals, which can
// continue without Redis.
const Timeout = 3 * time.Second

// A Database is the part of a Redis database whose keys begin with a prefix. It is safe for
// concurrent use.
type Database struct {
	// Redis is the client. The Database does not close it.
	Redis redis.UniversalClient

	// Prefix begins the name of every key and channel.
	Prefix string
}

// An Epoch is the time from when a database was empty until it loses its data.
type Epoch struct {
	// ID identifies the epoch, and has a random part. If the ID changes, the database
	// has lost its data.
	ID string

	// New means that this call has begun the epoch, because Redis had none.
	New bool
}

// Began returns the time at which the epoch began, by Redis' clock. It returns the zero time
// for an epoch of an earlier version, which did not store the time.
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

// Epoch returns the database's epoch, and begins one if there is none. The error is an
// [*Error].
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
	own := rand.Text()
	id, err := epochLua.Run(ctx, d.Redis, []string{d.epochKey()}, own).Text()
	if err != nil {
		return Epoch{}, Failure("write the epoch to Redis", err)
	}
	return Epoch{ID: id, New: strings.HasSuffix(id, "-"+own)}, nil
}

func (d Database) epochKey() string { return d.Prefix + "epoch" }

// Channel returns the name of a channel in an epoch. No two databases have the same channel.
// A Redis user can find the name by reading the database's keys, or by PUBSUB CHANNELS. The
// name need not be secret, because a message is only a hint to read records again.
func (d Database) Channel(name, epoch string) string { return d.Prefix + name + ":" + epoch }
