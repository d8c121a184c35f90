package tokens_test

import (
	"context"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/redistest"
	"hubspot-auth-proxy/tokens/secret"
	"hubspot-auth-proxy/tokens/store"
	"hubspot-auth-proxy/tokens/testkit"
)

// closing closes the source in another goroutine, and returns a channel with the error.
func closing(s *tokens.Source, timeout time.Duration) <-chan error {
	done := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		done <- s.Close(ctx)
	}()
	return done
}

func TestCloseWaitsForARenewalUnderWay(t *testing.T) {
	onEachRedis(t, func(t *testing.T, connect connector) {
		hub, g, client := newHub(t), &gate{}, connect(t)
		s := newSource(t, hub, tokens.Options{Redis: client, App: lateApp(t, hub, g)})
		seed(t, s, hub, portalID)
		g.close()
		call := later(func() (*tokens.Credential, error) { return s.Credential(t.Context(), portalID) })
		testkit.Eventually(t, "the answer is held up", func() bool { return g.held.Load() == 1 })
		done := closing(s, 20*time.Second)
		id := 0 // another one for each try, because an unknown portal is not read again for 5 s
		testkit.Eventually(t, "nothing new begins", func() bool {
			id++
			return answers(t, s, strconv.Itoa(id), &tokens.UnavailableError{})
		})
		select {
		case err := <-done:
			t.Fatalf("it does not wait: %v", err)
		default:
		}
		g.open()
		if err := <-done; err != nil {
			t.Errorf("Close: %v", err)
		}
		r := await(t, call)
		if r.err != nil || !secret.New(field(t, client, "access_token")).Equal(r.credential.Secret) {
			t.Errorf("the renewal is not stored: %v", r.err)
		}
		if client.Exists(t.Context(), lockKey).Val() != 0 {
			t.Error("the lock is left")
		}
		if get(t, s, portalID) != r.credential {
			t.Error("what is cached is not served any more")
		}
		if err := s.Close(t.Context()); err != nil {
			t.Errorf("closed again: %v", err)
		}
	})
}

func TestCloseReportsARenewalThatIsBrokenOff(t *testing.T) {
	t.Parallel()
	client, end := store.Embedded()
	t.Cleanup(end)
	hub := newHub(t)
	s := newSource(t, hub, tokens.Options{Redis: client})
	seed(t, s, hub, portalID)
	hub.SetToken(hubspottest.TokenBehaviour{Hang: true})
	call := later(func() (*tokens.Credential, error) { return s.Credential(t.Context(), portalID) })
	untilCalls(t, hub, 1)
	if err := <-closing(s, 50*time.Millisecond); !isError(t, err, context.DeadlineExceeded) {
		t.Errorf("Close: %v", err)
	}
	if r := await(t, call); !isError(t, r.err, &tokens.UnavailableError{}) {
		t.Errorf("the call gets %v", r.err)
	}
}

func TestCloseStoresUnsavedPortals(t *testing.T) {
	t.Parallel()
	for name, unreachable := range map[string]bool{"Redis answers again": false, "Redis is unreachable": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			hub, now, client := newHub(t), newClock(), dial(t, server)
			hub.SetToken(hubspottest.TokenBehaviour{Rotate: true})
			s := newSource(t, hub, tokens.Options{Redis: client, Now: now.now})
			seed(t, s, hub, portalID)
			old := get(t, s, portalID)
			c := cutoff(client)
			c.Store(true)
			now.advance(tokenLife)
			renewed := get(t, s, portalID)
			c.Store(unreachable)
			err := <-closing(s, time.Second)
			defer c.Store(false)
			if unreachable && !isError(t, err, errCut) || !unreachable && err != nil {
				t.Errorf("Close: %v", err)
			}
			want := map[bool]*tokens.Credential{true: old, false: renewed}[unreachable]
			if !secret.New(field(t, dial(t, server), "access_token")).Equal(want.Secret) {
				t.Error("another token is stored")
			}
		})
	}
}

func TestCloseReportsAnUnsavedPortalIfItsContextHasEnded(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	hub, now, client := newHub(t), newClock(), dial(t, server)
	s := newSource(t, hub, tokens.Options{Redis: client, Now: now.now})
	seed(t, s, hub, portalID)
	get(t, s, portalID)
	c := cutoff(client)
	c.Store(true)
	defer c.Store(false)
	now.advance(tokenLife)
	get(t, s, portalID)
	if err := <-closing(s, 0); err == nil || !strings.Contains(err.Error(), "1 renewed portals are not stored") {
		t.Errorf("Close: %v", err)
	}
}

// The goroutine that reads Redis' epoch has nothing to finish.
func TestCloseDoesNotWaitForAnUnreachableRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := dial(t, server)
	var asked atomic.Int64
	client.AddHook(hook{before: func(cmd redis.Cmder) error {
		asked.Add(1)
		return errCut
	}})
	s := newSource(t, newHub(t), tokens.Options{Redis: client})
	testkit.Eventually(t, "the epoch was asked for", func() bool { return asked.Load() > 0 })
	begin := time.Now()
	if err := <-closing(s, 20*time.Second); err != nil || time.Since(begin) > 10*time.Second {
		t.Errorf("Close: %v after %v", err, time.Since(begin))
	}
}

// This test is not parallel, so that no goroutines of other tests run.
func TestCloseLeavesNoGoroutine(t *testing.T) {
	before := goleak.IgnoreCurrent()
	client, end := store.Embedded()
	hub := hubspottest.NewServer()
	app := newApp(t, hub, nil)
	s := tokens.NewSource(tokens.Options{Redis: client, Prefix: "hubspot:", App: app})
	seed(t, s, hub, portalID)
	get(t, s, portalID)
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	end()
	app.Client.CloseIdleConnections()
	hub.Close()
	goleak.VerifyNone(t, before)
}
