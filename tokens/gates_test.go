package tokens_test

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"hubspot-auth-proxy/tokens/hubspot"
	"hubspot-auth-proxy/tokens/hubspottest"
)

// gate makes goroutines wait while it is closed. The zero value is open.
type gate struct {
	mu     sync.Mutex
	closed chan struct{} // nil means open
	held   atomic.Int64  // the number of goroutines that have waited so far
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = make(chan struct{})
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed != nil {
		close(g.closed)
		g.closed = nil
	}
}

// leave opens the gate for goroutines that arrive from now on. It returns a function that opens the
// gate for those that wait.
func (g *gate) leave() (release func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	closed := g.closed
	g.closed = nil
	return func() { close(closed) }
}

func (g *gate) pass() {
	g.mu.Lock()
	closed := g.closed
	g.mu.Unlock()
	if closed != nil {
		g.held.Add(1)
		select {
		case <-closed:
		case <-time.After(25 * time.Second): // the test has failed
		}
	}
}

// lateAnswers is a transport whose answers arrive when the gate is open.
type lateAnswers struct {
	http.RoundTripper
	*gate
}

func (l lateAnswers) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := l.RoundTripper.RoundTrip(r)
	l.pass()
	return response, err
}

// lateApp returns an app whose answers wait at the gate.
func lateApp(t *testing.T, hub *hubspottest.Server, g *gate) *hubspot.App {
	t.Cleanup(g.open)
	return newApp(t, hub, func(transport http.RoundTripper) http.RoundTripper {
		return lateAnswers{transport, g}
	})
}

// hook has functions that are called before and after each command of a client.
type hook struct {
	before func(redis.Cmder) error // an error is the command's answer
	after  func(redis.Cmder)
}

func (h hook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h hook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if h.before != nil {
			if err := h.before(cmd); err != nil {
				cmd.SetErr(err)
				return err
			}
		}
		err := next(ctx, cmd)
		if h.after != nil {
			h.after(cmd)
		}
		return err
	}
}

func (h hook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// counter counts the commands that name the key.
func counter(client redis.UniversalClient, key string) *atomic.Int64 {
	var count atomic.Int64
	client.AddHook(hook{before: func(cmd redis.Cmder) error {
		for _, arg := range cmd.Args() {
			if arg == key {
				count.Add(1)
				break
			}
		}
		return nil
	}})
	return &count
}

// cutoff returns a switch that makes every command of the client fail.
type cut struct{ atomic.Bool }

var errCut = errors.New("cut off by the test")

func cutoff(client redis.UniversalClient) *cut {
	var c cut
	client.AddHook(hook{before: func(redis.Cmder) error {
		if c.Load() {
			return errCut
		}
		return nil
	}})
	return &c
}
