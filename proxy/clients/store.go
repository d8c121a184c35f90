package clients

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"hubspot-auth-proxy/tokens/secret"
	"hubspot-auth-proxy/tokens/store"
)

//go:embed change.lua
var changeScript string

var changeLua = redis.NewScript(changeScript)

// ErrUnknown: there is no client of that name in Redis.
var ErrUnknown = errors.New("there is no client of that name")

// ErrExists: there is a client of that name in Redis already.
var ErrExists = errors.New("there is a client of that name already")

// Store reads and writes the clients in Redis. It is safe for concurrent use.
type Store struct {
	// Redis has the clients. Its owner closes it.
	Redis redis.UniversalClient

	// Prefix is what every key and channel in Redis begins with.
	Prefix string
}

// Add stores a client, in the place of one of the same name.
func (s Store) Add(ctx context.Context, client Client) error {
	if err := client.Check(); err != nil {
		return err
	}
	_, err := s.change(ctx, "set", fields([]Client{client})...)
	return err
}

// Create stores a client, unless there is one of its name: the error is
// [ErrExists] then.
func (s Store) Create(ctx context.Context, client Client) error {
	if err := client.Check(); err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, store.Timeout)
	defer cancel()
	named := fields([]Client{client})
	created, err := s.Redis.HSetNX(limited, s.key(), field(client.Name), named[1]).Result()
	switch {
	case err != nil:
		return store.Failure("write clients to Redis", err)
	case !created:
		return ErrExists
	}
	return s.Add(ctx, client) // the same again, with a version and an event
}

// Rotate gives a client another key, which expires at that time, never if it is
// zero; its keys so far work until the overlap has passed. The error is [ErrUnknown]
// if there is no client of that name. Rotate returns the client as it is stored.
func (s Store) Rotate(ctx context.Context, name string, key secret.Text, expires time.Time, overlap time.Duration, now time.Time) (Client, error) {
	for {
		before, err := s.read(ctx, name)
		if err != nil {
			return Client{}, err
		}
		var client Client
		if json.Unmarshal([]byte(before), &client) != nil || client.Check() != nil || client.Name != name {
			return Client{}, &DamagedError{Names: []string{name}}
		}
		client = client.Rotated(key, expires, overlap, now)
		if err := client.Check(); err != nil {
			return Client{}, err
		}
		changed, err := s.change(ctx, "replace", append(fields([]Client{client}), before)...)
		if err != nil || changed == 1 {
			return client, err
		}
		// Somebody else has changed it meanwhile.
	}
}

// read returns what Redis has of a client.
func (s Store) read(ctx context.Context, name string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, store.Timeout)
	defer cancel()
	value, err := s.Redis.HGet(ctx, s.key(), field(name)).Result()
	switch {
	case errors.Is(err, redis.Nil):
		return "", ErrUnknown
	case err != nil:
		return "", store.Failure("read clients from Redis", err)
	}
	return value, nil
}

// Remove removes a client: its key is cut off everywhere. The error is
// [ErrUnknown] if there is none.
func (s Store) Remove(ctx context.Context, name string) error {
	changed, err := s.change(ctx, "delete", field(name))
	if err == nil && changed == 0 {
		return ErrUnknown
	}
	return err
}

// List returns the clients, by name. If some are damaged, it returns the
// others, and an error that is a [*DamagedError].
func (s Store) List(ctx context.Context) ([]Client, error) {
	read, err := s.load(ctx)
	if err == nil && len(read.damaged) > 0 {
		err = &DamagedError{Names: read.damaged}
	}
	return read.clients, err
}

// A DamagedError says which clients in Redis cannot be used. Nobody knows any
// more what they may do, so that they may do nothing.
type DamagedError struct{ Names []string }

// Error names the clients, and says what to do.
func (e *DamagedError) Error() string {
	return fmt.Sprintf("clients in Redis are damaged, and their keys refused: %q: remove them and add them again", e.Names)
}

// loaded is what Redis has.
type loaded struct {
	clients []Client // by name
	damaged []string // names of others
	version int64    // 0 if there is none, or it is damaged
}

// maxVersion bounds versions: Lua's numbers are exact up to here.
const maxVersion = 1 << 53

// load returns what Redis has.
func (s Store) load(ctx context.Context) (loaded, error) {
	ctx, cancel := context.WithTimeout(ctx, store.Timeout)
	defer cancel()
	stored, err := s.Redis.HGetAll(ctx, s.key()).Result()
	if err != nil {
		return loaded{}, store.Failure("read clients from Redis", err)
	}
	var l loaded
	if version, err := strconv.ParseInt(stored["version"], 10, 64); err == nil && version > 0 && version < maxVersion {
		l.version = version
	}
	for key, value := range stored {
		name, found := strings.CutPrefix(key, field(""))
		if !found {
			continue
		}
		// One that is damaged must not keep the others from being cut off.
		var client Client
		if err := json.Unmarshal([]byte(value), &client); err != nil || client.Check() != nil || client.Name != name {
			l.damaged = append(l.damaged, name)
			continue
		}
		l.clients = append(l.clients, client)
	}
	slices.SortFunc(l.clients, func(a, b Client) int { return strings.Compare(a.Name, b.Name) })
	slices.Sort(l.damaged)
	return l, nil
}

// restore stores a set of clients again that Redis has lost, unless it has
// that version or a newer one by now. The version stays what it was: of several
// processes that restore what they hold, the one with the newest set prevails.
func (s Store) restore(ctx context.Context, clients []Client, version int64) error {
	_, err := s.change(ctx, strconv.FormatInt(version, 10), fields(clients)...)
	return err
}

// change runs the script, and returns how many fields it changed.
func (s Store) change(ctx context.Context, what string, args ...any) (changed int64, err error) {
	epoch, err := s.database().Epoch(ctx)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, store.Timeout)
	defer cancel()
	all := append([]any{s.database().Channel(channelName, epoch.ID), what}, args...)
	answer, err := changeLua.Run(ctx, s.Redis, []string{s.key()}, all...).Int64Slice()
	if err == nil && len(answer) != 2 {
		err = store.ErrShape
	}
	if err != nil {
		return 0, store.Failure("write clients to Redis", err)
	}
	return answer[1], nil
}

// fields returns the fields and values of the clients' hash.
func fields(clients []Client) []any {
	var all []any
	for _, client := range clients {
		value, _ := json.Marshal(client) // strings and a bool: it cannot fail
		all = append(all, field(client.Name), string(value))
	}
	return all
}

func field(name string) string { return "client:" + name }

func (s Store) key() string { return s.Prefix + "clients" }

// database is what all parts of the program share in Redis.
func (s Store) database() store.Database { return store.Database{Redis: s.Redis, Prefix: s.Prefix} }

// channelName is what the events' channel is called in each epoch.
const channelName = "client-events"
