package store

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"hubspot-auth-proxy/tokens/store/statefile"
)

const (
	// stateWait is the longest time that a process waits for a state file while the same other
	// process uses it. A command uses the file only for a moment, so commands that are started
	// together take turns.
	stateWait = 3 * time.Second

	// stateRetry is the interval at which a waiting process tries to open the file.
	stateRetry = 25 * time.Millisecond

	// clockStep is the interval at which the clock of an embedded Redis is advanced.
	clockStep = 250 * time.Millisecond
)

// Embedded starts a Redis within this process. It returns a client, and a function that
// closes the client and stops the Redis. The embedded Redis opens no port, requires no
// password, and keeps its data in memory only.
func Embedded() (client redis.UniversalClient, end func()) {
	server := miniredis.NewMiniRedis()
	client, closeClient := inMemory(server.Dial)
	ctx, cancel := context.WithCancel(context.Background())
	var passing sync.WaitGroup
	// miniredis' clock stands still by itself, and keys would never expire.
	passing.Go(func() { every(ctx, clockStep, func() { server.FastForward(clockStep) }) })
	return client, func() {
		cancel()
		passing.Wait()
		closeClient()
		server.Close()
	}
}

// EmbeddedIn starts a Redis within this process that keeps its data in the file at path. Other
// processes of this user can use that Redis by a Unix socket beside the file. If other processes use
// the file, EmbeddedIn waits until one of them has used it for three seconds, or until ctx ends. The
// error is a [*statefile.Error].
//
// end closes the client, writes the changes that are not written yet, and stops the Redis. Its
// error means that changes of keys that expire could not be written.
func EmbeddedIn(ctx context.Context, path string, options statefile.Options) (client redis.UniversalClient, end func() error, err error) {
	server, err := openState(ctx, path, options, func() bool { return false })
	if err != nil {
		return nil, nil, err
	}
	if err := server.Listen(); err != nil {
		_ = server.Close() // nothing has changed
		return nil, nil, err
	}
	client, end = clientOf(server)
	return client, end, nil
}

// Join returns a client of the Redis that keeps its data in the file at path. If another process
// runs that Redis, the client connects to its socket. Otherwise Join starts the Redis in this
// process, and no other process can connect to it. Join waits, and returns errors, as
// [EmbeddedIn] does. end closes the client, and stops the Redis if it runs in this process.
func Join(ctx context.Context, path string, options statefile.Options) (client redis.UniversalClient, end func() error, err error) {
	socket := statefile.Socket(path)
	server, err := openState(ctx, path, options, func() bool { return listens(socket) })
	switch {
	case err != nil:
		return nil, nil, err
	case server == nil:
		client = newClient(&redis.Options{Network: "unix", Addr: socket})
		return client, func() error { _ = client.Close(); return nil }, nil // the other process has the data
	}
	client, end = clientOf(server)
	return client, end, nil
}

// openState opens the file and returns its server. While other processes use the file, openState
// tries again, for at most stateWait for each of them. Before each further try it calls instead, which
// reports whether the caller can use the other process. In this case openState returns nil, nil.
func openState(ctx context.Context, path string, options statefile.Options, instead func() bool) (*statefile.Server, error) {
	user := "" // the error that names the process that uses the file
	var giveUp time.Time
	for {
		server, err := statefile.Open(path, options)
		if !statefile.IsInUse(err) {
			return server, err
		}
		if instead() {
			return nil, nil
		}
		if err.Error() != user {
			user, giveUp = err.Error(), time.Now().Add(stateWait)
			if options.Log != nil {
				options.Log.Info("waiting for STATE_FILE", zap.Error(err), zap.Duration("at_most", stateWait))
			}
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(stateRetry):
		}
		if time.Now().After(giveUp) {
			return nil, err
		}
	}
}

// listens reports whether a process listens on the socket.
func listens(socket string) bool {
	conn, err := net.Dial("unix", socket)
	if err == nil {
		_ = conn.Close()
	}
	return err == nil
}

// clientOf returns a client of the server, and a function that closes both.
func clientOf(server *statefile.Server) (client redis.UniversalClient, end func() error) {
	client, closeClient := inMemory(server.Dial)
	return client, func() error {
		closeClient()
		return server.Close()
	}
}

// embeddedAddr is the address in the options of clients of an embedded Redis. Nothing listens
// there.
const embeddedAddr = "embedded"

// inMemory returns a client of an embedded Redis, and a function that closes the client. Afterwards
// the client does not call dial, although go-redis may still be connecting in the background.
func inMemory(dial func() (net.Conn, error)) (client redis.UniversalClient, end func()) {
	var mu sync.Mutex // guards closed, and is held during dial
	closed := false
	client = newClient(&redis.Options{Addr: embeddedAddr, Dialer: func(context.Context, string, string) (net.Conn, error) {
		mu.Lock()
		defer mu.Unlock()
		if closed {
			return nil, net.ErrClosed
		}
		return dial()
	}})
	return client, func() {
		_ = client.Close() // its connections are in memory
		mu.Lock()
		defer mu.Unlock()
		closed = true
	}
}

// isEmbedded reports whether the client uses a Redis within this process. No other proxy uses that
// Redis, so no other process can write records back to it.
func isEmbedded(client redis.UniversalClient) bool {
	one, ok := client.(*redis.Client)
	return ok && one.Options().Addr == embeddedAddr
}
