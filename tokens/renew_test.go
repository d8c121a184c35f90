package tokens_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/store"
	"hubspot-auth-proxy/tokens/testkit"
)

func TestNoCallWaitsForARenewalAheadOfTime(t *testing.T) {
	onEachRedis(t, func(t *testing.T, connect connector) {
		hub, now := newHub(t), newClock()
		s := newSource(t, hub, tokens.Options{Redis: connect(t), Now: now.now})
		seed(t, s, hub, portalID)
		current := get(t, s, portalID)
		for renewal := range 2 {
			hub.SetToken(hubspottest.TokenBehaviour{Hang: true})
			now.advance(tokenLife - 6*time.Minute)
			get(t, s, portalID)
			wantCalls(t, hub, 1+renewal) // too early for a renewal
			now.advance(2 * time.Minute)
			// The token endpoint hangs, so a call that waited for it would not return.
			for _, r := range together(200, func() (*tokens.Credential, error) { return s.Credential(t.Context(), portalID) }) {
				if r.err != nil || !r.credential.Secret.Equal(current.Secret) {
					t.Fatalf("not the token that still lives: %v", r.err)
				}
			}
			testkit.Eventually(t, "a renewal is under way", func() bool {
				get(t, s, portalID) // the former renewal may have ended only now
				return hub.TokenCalls(portalID) == 2+renewal
			})
			get(t, s, portalID)
			hub.SetToken(hubspottest.TokenBehaviour{})
			testkit.Eventually(t, "there is a new token", func() bool { return hasOther(s, current) })
			current = get(t, s, portalID)
			wantCalls(t, hub, 2+renewal)
		}
	})
}

// This test uses real time and a slow token endpoint.
func TestEachCallGetsAValidTokenAtOnceDuringRenewals(t *testing.T) {
	t.Parallel()
	const latency = 400 * time.Millisecond
	client, end := store.Embedded()
	t.Cleanup(end)
	hub := newHub(t)
	hub.SetToken(hubspottest.TokenBehaviour{Life: 4 * time.Second, Latency: latency})
	s := newSource(t, hub, tokens.Options{Redis: client})
	seed(t, s, hub, portalID)
	first := get(t, s, portalID)

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var clients sync.WaitGroup
	for range 10 {
		clients.Go(func() {
			ticker := time.NewTicker(2 * time.Millisecond)
			defer ticker.Stop()
			for hub.TokenCalls(portalID) < 3 && ctx.Err() == nil {
				begin := time.Now()
				c, err := s.Credential(ctx, portalID)
				if took := time.Since(begin); took >= latency {
					t.Errorf("a call took %v", took)
				}
				if err != nil || !c.Expiry.After(begin) {
					t.Errorf("no live token: %v", err)
					return
				}
				<-ticker.C
			}
		})
	}
	clients.Wait()
	// Two renewals, each a bit before the end of 4 s.
	if took := time.Since(first.Expiry.Add(-4 * time.Second)); hub.TokenCalls(portalID) != 3 || took < 5*time.Second {
		t.Errorf("%d token calls in %v, want 3 in 6 s or more", hub.TokenCalls(portalID), took)
	}
}

func TestTheFormerRefreshTokenStaysIfTheAnswerHasNone(t *testing.T) {
	onEachRedis(t, func(t *testing.T, connect connector) {
		hub, now, client := newHub(t), newClock(), connect(t)
		hub.SetToken(hubspottest.TokenBehaviour{OmitRefreshToken: true})
		s := newSource(t, hub, tokens.Options{Redis: client, Now: now.now})
		refresh := seed(t, s, hub, portalID)
		for range 3 {
			get(t, s, portalID)
			if field(t, client, "refresh_token") != refresh {
				t.Fatal("the refresh token is lost")
			}
			now.advance(tokenLife)
		}
		wantCalls(t, hub, 3)
	})
}

func TestARotatedRefreshTokenIsStoredAndUsed(t *testing.T) {
	onEachRedis(t, func(t *testing.T, connect connector) {
		hub, now, client := newHub(t), newClock(), connect(t)
		hub.SetToken(hubspottest.TokenBehaviour{Rotate: true})
		s := newSource(t, hub, tokens.Options{Redis: client, Now: now.now})
		before := seed(t, s, hub, portalID)
		for range 3 {
			get(t, s, portalID)
			after := field(t, client, "refresh_token")
			if after == before {
				t.Fatal("the new refresh token is not stored")
			}
			before = after
			now.advance(tokenLife)
		}
	})
}

func TestAClientThatDisconnectsCancelsNoRenewal(t *testing.T) {
	onEachRedis(t, func(t *testing.T, connect connector) {
		hub := newHub(t)
		s := newSource(t, hub, tokens.Options{Redis: connect(t)})
		seed(t, s, hub, portalID)
		hub.SetToken(hubspottest.TokenBehaviour{Hang: true})
		gone := errors.New("the client has left")
		ctx, cancel := context.WithCancelCause(t.Context())
		call := later(func() (*tokens.Credential, error) { return s.Credential(ctx, portalID) })
		untilCalls(t, hub, 1)
		cancel(gone)
		if r := await(t, call); !isError(t, r.err, gone) {
			t.Errorf("the one who left gets %v", r.err)
		}
		hub.SetToken(hubspottest.TokenBehaviour{})
		get(t, s, portalID)
		wantCalls(t, hub, 1)
	})
}

func TestTheTokenOfAnEndedGrantIsServedWhileHubSpotAcceptsIt(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*testing.T, *tokens.Source, *tokens.Credential, *clock){
		"until it is rejected": func(t *testing.T, s *tokens.Source, c *tokens.Credential, _ *clock) {
			if _, err := s.Renew(t.Context(), c, false); !isError(t, err, &tokens.EndedError{}) {
				t.Errorf("Renew: %v", err)
			}
		},
		"until it expires": func(_ *testing.T, _ *tokens.Source, c *tokens.Credential, now *clock) {
			now.advance(c.Expiry.Sub(now.now()))
		},
	} {
		t.Run(name, func(t *testing.T) {
			onEachRedis(t, func(t *testing.T, connect connector) {
				hub, now, client := newHub(t), newClock(), connect(t)
				s := newSource(t, hub, tokens.Options{Redis: client, Now: now.now})
				other := newSource(t, hub, tokens.Options{Redis: connect(t), Now: now.now})
				seed(t, s, hub, portalID)
				c := get(t, s, portalID)
				c2 := get(t, other, portalID)
				hub.Disconnect(portalID)
				now.advance(tokenLife - 50*time.Second)
				get(t, s, portalID) // starts the renewal that fails
				testkit.Eventually(t, "the grant is marked as ended", func() bool { return field(t, client, "state") == "ended" })
				for range 100 {
					if got := get(t, s, portalID); got != c {
						t.Fatal("not the token that still lives")
					}
				}
				end(t, s, c, now)
				end(t, other, c2, now)
				for _, s := range []*tokens.Source{s, other} {
					if !answers(t, s, portalID, &tokens.EndedError{}) {
						t.Error("it is still served")
					}
				}
				wantCalls(t, hub, 2)
			})
		})
	}
}
