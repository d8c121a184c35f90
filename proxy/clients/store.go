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
)

// redisTimeout is how long one operation of Redis may take.
const redisTimeout = 3 * time.Second

//go:embed change.lua
var changeScript string

var changeLua = redis.NewScript(changeScript)

// ErrUnknown: there is no client of that name in Redis.
var ErrUnknown = errors.New("there is no client of that name")

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
	_, _, err := s.change(ctx, "any", "set", fields([]Client{client})...)
	return err
}

// Remove removes a client: its key is cut off everywhere. The error is
// [ErrUnknown] if there is none.
func (s Store) Remove(ctx context.Context, name string) error {
	_, changed, err := s.change(ctx, "any", "delete", field(name))
	if err == nil && changed == 0 {
		return ErrUnknown
	}
	return err
}

// List returns the clients, by name.
func (s Store) List(ctx context.Context) ([]Client, error) {
	clients, _, err := s.load(ctx)
	return clients, err
}

// load returns the clients and their version, 0 if Redis has none.
func (s Store) load(ctx context.Context) (clients []Client, version int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	stored, err := s.Redis.HGetAll(ctx, s.key()).Result()
	if err != nil {
		return nil, 0, fmt.Errorf("read clients from Redis: %w", err)
	}
	for name, value := range stored {
		switch {
		case name == "version":
			version, err = strconv.ParseInt(value, 10, 64)
		case strings.HasPrefix(name, field("")):
			var client Client
			err = json.Unmarshal([]byte(value), &client)
			clients = append(clients, client)
		}
		if err != nil {
			return nil, 0, fmt.Errorf("the clients in Redis are damaged at %q: remove that client and add it again", name)
		}
	}
	slices.SortFunc(clients, func(a, b Client) int { return strings.Compare(a.Name, b.Name) })
	return clients, version, nil
}

// errChanged: the clients have another version than expected.
var errChanged = errors.New("the clients were changed meanwhile")

// restore stores clients again that Redis has lost, if it still has the
// version.
func (s Store) restore(ctx context.Context, clients []Client, version int64) error {
	_, _, err := s.change(ctx, strconv.FormatInt(version, 10), "replace", fields(clients)...)
	return err
}

func (s Store) change(ctx context.Context, expected, what string, args ...any) (version, changed int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	all := append([]any{expected, s.channel(), what}, args...)
	answer, err := changeLua.Run(ctx, s.Redis, []string{s.key()}, all...).Int64Slice()
	if err != nil {
		return 0, 0, fmt.Errorf("write clients to Redis: %w", err)
	}
	if answer[0] != 1 {
		return 0, 0, errChanged
	}
	return answer[1], answer[2], nil
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

func (s Store) channel() string { return s.Prefix + "client-events" }
