package tokens_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/redistest"
	"hubspot-auth-proxy/tokens/testkit"
)

// A renewal ahead of time is postponed while Redis refuses writes. A request may wait for that
// renewal, because its token has expired or HubSpot has rejected it in the meantime. Such a request
// needs a new token all the same.
func TestARequestThatWaitsForARenewalThatIsPostponedGetsANewToken(t *testing.T) {
	t.Parallel()
	for name, request := range map[string]func(context.Context, *tokens.Source, *clock, *tokens.Credential) (*tokens.Credential, error){
		"the token has expired": func(ctx context.Context, s *tokens.Source, now *clock, _ *tokens.Credential) (*tokens.Credential, error) {
			now.advance(2 * time.Minute)
			return s.Credential(ctx, portalID)
		},
		"HubSpot has rejected the token": func(ctx context.Context, s *tokens.Source, _ *clock, old *tokens.Credential) (*tokens.Credential, error) {
			return s.Renew(ctx, old, true)
		},
		"the operator has the grant tried": func(ctx context.Context, s *tokens.Source, now *clock, _ *tokens.Credential) (*tokens.Credential, error) {
			now.advance(2 * time.Minute)
			return s.TryAgain(ctx, portalID)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			hub, now, locking := newHub(t), newClock(), &gate{}
			hub.SetToken(hubspottest.TokenBehaviour{Rotate: true})
			client := dial(t, server)
			s := newSource(t, hub, tokens.Options{Redis: client, Now: now.now})
			seed(t, s, hub, portalID)
			old := get(t, s, portalID)
			testkit.Eventually(t, "the lock is released", func() bool { return server.Do("EXISTS", lockKey) == "0" })
			server.Do("CONFIG", "SET", "min-replicas-to-write", "1")
			client.AddHook(hook{before: func(cmd redis.Cmder) error {
				if slices.Contains(cmd.Args(), any(lockKey)) {
					locking.pass()
				}
				return nil
			}})
			locking.close()
			t.Cleanup(locking.open)
			now.advance(tokenLife - time.Minute)
			get(t, s, portalID)
			testkit.Eventually(t, "a renewal ahead of time is under way", func() bool { return locking.held.Load() > 0 })

			ctx := &waiting{Context: t.Context(), begun: make(chan struct{})}
			call := later(func() (*tokens.Credential, error) { return request(ctx, s, now, old) })
			<-ctx.begun
			locking.open()
			if r := await(t, call); r.err != nil || r.credential.Secret.Equal(old.Secret) {
				t.Errorf("no new token: %v", r.err)
			}
			wantCalls(t, hub, 2)
			server.Do("CONFIG", "SET", "min-replicas-to-write", "0") // so that the source stores the token when it is closed
		})
	}
}

// waiting is a context that closes begun as soon as somebody waits for its end.
type waiting struct {
	context.Context
	once  sync.Once
	begun chan struct{}
}

// Done implements context.Context.
func (w *waiting) Done() <-chan struct{} {
	w.once.Do(func() { close(w.begun) })
	return w.Context.Done()
}
