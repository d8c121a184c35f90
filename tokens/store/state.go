package store

import (
	"context"
	"net"
	"time"

	"github.com/redis/go-redis/v9"

	"hubspot-auth-proxy/tokens/store/statefile"
)

const (
	// stateWait is how long a process waits for a state file that another one has: a command
	// has it for a moment only.
	stateWait = 3 * time.Second

	// stateRetry is how often a process tries to open the file meanwhile.
	stateRetry = 25 * time.Millisecond
)

// EmbeddedIn is like [Embedded], with a Redis that keeps its data in a file. Other processes of
// this user reach that Redis by a socket beside the file. End writes what is not written yet.
// The error is a [*statefile.Error].
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

// Join returns a client of the Redis of the process that has the file, or, if no process has it,
// of a Redis in this one that no other process reaches.
func Join(ctx context.Context, path string, options statefile.Options) (client redis.UniversalClient, end func() error, err error) {
	socket := statefile.Socket(path)
	server, err := openState(ctx, path, options, func() bool { return listens(socket) })
	switch {
	case err != nil:
		return nil, nil, err
	case server == nil:
		client = localClient(&redis.Options{Network: "unix", Addr: socket})
		return client, func() error { _ = client.Close(); return nil }, nil // nothing is lost with it
	}
	client, end = clientOf(server)
	return client, end, nil
}

// openState opens the file, or returns nil when instead returns true. While another process has
// the file, openState waits.
func openState(ctx context.Context, path string, options statefile.Options, instead func() bool) (*statefile.Server, error) {
	ctx, cancel := context.WithTimeout(ctx, stateWait)
	defer cancel()
	for {
		server, err := statefile.Open(path, options)
		if !statefile.IsInUse(err) {
			return server, err
		}
		if instead() {
			return nil, nil
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(stateRetry):
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

// clientOf returns a client of the server, and what closes both.
func clientOf(server *statefile.Server) (client redis.UniversalClient, end func() error) {
	client = localClient(&redis.Options{Addr: embeddedAddr, Dialer: func(context.Context, string, string) (net.Conn, error) { return server.Dial() }})
	return client, func() error {
		_ = client.Close() // in memory
		return server.Close()
	}
}

// localClient returns a client of a Redis on this machine.
func localClient(options *redis.Options) redis.UniversalClient {
	tune(&options.DialTimeout, &options.DialerRetries, &options.ContextTimeoutEnabled)
	options.MaintNotificationsConfig, options.DisableIdentity = noNotifications(), true
	return redis.NewClient(options)
}
