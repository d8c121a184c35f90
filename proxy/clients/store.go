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

// ErrUnknown means that Redis has no client of that name.
var ErrUnknown = errors.New("there is no client of that name")

// ErrExists means that Redis already has a client of that name.
var ErrExists = errors.New("there is a client of that name already")

// Store reads and writes the clients in Redis. It is safe for concurrent use.
type Store struct {
	// Redis stores the clients. The Store does not close it.
	Redis redis.UniversalClient

	// Prefix begins the name of every key and channel in Redis.
	Prefix string
}

// Add stores a client, and replaces a client with the same name.
func (s Store) Add(ctx context.Context, client Client) error {
	if err := client.Check(); err != nil {
		return err
	}
	_, err := s.change(ctx, "set", fields([]Client{client})...)
	return err
}

// Create stores a new client. Create fails with [ErrExists] if Redis has a client
// with the same name.
func (s Store) Create(ctx context.Context, client Client) error {
	if err := client.Check(); err != nil {
		return err
	}
	changed, err := s.change(ctx, "create", fields([]Client{client})...)
	if err == nil && changed == 0 {
		return ErrExists
	}
	return err
}

// Rotate gives a client a new current key, and returns the client as stored. A zero expiry
// means never. The previous keys work until the overlap has passed. Rotate fails with
// [ErrUnknown] if there is no client of that name.
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
		// Another process has changed the client in the meantime.
	}
}

// read returns a client's field in Redis.
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

// Remove removes a client. Its keys stop working in all processes. Remove fails with
// [ErrUnknown] if there is no client of that name.
func (s Store) Remove(ctx context.Context, name string) error {
	changed, err := s.change(ctx, "delete", field(name))
	if err == nil && changed == 0 {
		return ErrUnknown
	}
	return err
}

// List returns the clients, sorted by name. If some are damaged, List returns the others
// together with a [*DamagedError].
func (s Store) List(ctx context.Context) ([]Client, error) {
	read, err := s.load(ctx)
	if err == nil && len(read.damaged) > 0 {
		err = &DamagedError{Names: read.damaged}
	}
	return read.clients, err
}

// A DamagedError reports clients in Redis that cannot be parsed. They have no access, because
// their rights are not known.
type DamagedError struct{ Names []string }

// Error names the clients, and says what to do.
func (e *DamagedError) Error() string {
	return fmt.Sprintf("clients in Redis are damaged, and their keys refused: %q: remove them and add them again", e.Names)
}

// loaded is the content of Redis.
type loaded struct {
	clients []Client // by name
	damaged []string // names of the clients that cannot be parsed
	version int64    // 0 if Redis has no version, or a damaged one
}

// maxVersion bounds versions: Lua's numbers are exact up to here.
const maxVersion = 1 << 53

// load reads all clients from Redis.
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
		// A damaged client must not keep other clients' changes from taking effect.
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

// restore stores clients again that Redis has lost. If Redis has the same or a newer version
// by now, restore does nothing. restore does not change the version. If several processes
// restore their clients, the process with the newest version therefore wins.
func (s Store) restore(ctx context.Context, clients []Client, version int64) error {
	_, err := s.change(ctx, strconv.FormatInt(version, 10), fields(clients)...)
	return err
}

// change runs change.lua, and returns the number of changed fields.
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
		value, _ := json.Marshal(client) // these types cannot fail
		all = append(all, field(client.Name), string(value))
	}
	return all
}

func field(name string) string { return "client:" + name }

func (s Store) key() string { return s.Prefix + "clients" }

// database returns the part of Redis that the whole program shares.
func (s Store) database() store.Database { return store.Database{Redis: s.Redis, Prefix: s.Prefix} }

// channelName is the name of the events' channel, to which the epoch is added.
const channelName = "client-events"
