package tokens_test

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/redistest"
	"hubspot-auth-proxy/tokens/secret"
	"hubspot-auth-proxy/tokens/store"
)

func TestAnotherPortalsTokenIsNotServed(t *testing.T) {
	onEachRedis(t, func(t *testing.T, connect connector) {
		hub, now, client := newHub(t), newClock(), connect(t)
		s, log := watched(t, hub, tokens.Options{Redis: client, Now: now.now})
		put(t, s, portalID, tokens.OAuth, hub.Connect("1"))
		for range 50 {
			if !answers(t, s, portalID, &tokens.UnavailableError{}) {
				t.Fatal("not an UnavailableError")
			}
		}
		if n := hub.TokenCalls("1"); n != 1 {
			t.Errorf("%d token calls, want 1 and then a pause", n)
		}
		if n := log.lines("the refresh token that is stored for a portal belongs to another portal"); n != 1 {
			t.Errorf("it was logged %d times", n)
		}
		if text := log.String(); !strings.Contains(text, "belongs to portal 1: connect portal "+portalID+", or correct the id") {
			t.Error(text)
		}
		if got := field(t, client, "access_token"); got != "" {
			t.Error("the other portal's token was stored")
		}
		// After the portal is connected again, it is served.
		if err := s.Set(t.Context(), tokens.Seed{Portal: portalID, Kind: tokens.OAuth, Secret: secret.New(hub.Connect(portalID))}, "test"); err != nil {
			t.Fatal(err)
		}
		now.advance(time.Second)
		get(t, s, portalID)
	})
}

func TestAnAnswerWithoutAPortalIsAccepted(t *testing.T) {
	t.Parallel()
	client, end := store.Embedded()
	t.Cleanup(end)
	hub := newHub(t)
	hub.SetToken(hubspottest.TokenBehaviour{OmitHubID: true})
	s := newSource(t, hub, tokens.Options{Redis: client})
	seed(t, s, hub, portalID)
	get(t, s, portalID)
}

func TestAnEndedGrantThatCannotBeStoredPausesTokenCalls(t *testing.T) {
	t.Parallel()
	for name, refuse := range map[string]func(t *testing.T, client redis.UniversalClient){
		"too few replicas": func(t *testing.T, client redis.UniversalClient) {
			if err := redistest.Admin(t, client).(*redis.Client).ConfigSet(t.Context(), "min-replicas-to-write", "1").Err(); err != nil {
				t.Fatal(err)
			}
		},
		"no answer to writes": func(_ *testing.T, client redis.UniversalClient) {
			client.AddHook(hook{before: func(cmd redis.Cmder) error {
				if strings.HasPrefix(cmd.Name(), "eval") {
					return errCut
				}
				return nil
			}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			hub, now, client := newHub(t), newClock(), dial(t, server)
			s := newSource(t, hub, tokens.Options{Redis: client, Now: now.now})
			seed(t, s, hub, portalID)
			put(t, s, "1", tokens.APIKey, "x")
			get(t, s, "1") // reads Redis' epoch, which is a write if there is none
			hub.SetToken(hubspottest.TokenBehaviour{Code: "BAD_REFRESH_TOKEN"})
			refuse(t, client)
			for range 600 { // in a minute
				if !answers(t, s, portalID, &tokens.UnavailableError{}) {
					t.Fatal("not an UnavailableError")
				}
				now.advance(100 * time.Millisecond)
				if n := hub.TokenCalls(portalID); n > 12 {
					t.Fatalf("%d token calls in less than a minute", n)
				}
			}
			if n := hub.TokenCalls(portalID); n < 2 {
				t.Errorf("%d token calls in a minute: it is not tried again", n)
			}
			if state := field(t, client, "state"); state != "active" {
				t.Errorf("the record is %s", state)
			}
		})
	}
}

// The token call takes longer than the token lives.
func TestATokenThatHasExpiredOnArrivalIsStoredAndNotServed(t *testing.T) {
	onEachRedis(t, func(t *testing.T, connect connector) {
		hub, now, client := newHub(t), newClock(), connect(t)
		var late atomic.Int64
		late.Store(int64(1300 * time.Millisecond))
		app := newApp(t, hub, func(transport http.RoundTripper) http.RoundTripper {
			return roundTripper(func(r *http.Request) (*http.Response, error) {
				return aging{transport, now, time.Duration(late.Load())}.RoundTrip(r)
			})
		})
		s := newSource(t, hub, tokens.Options{Redis: client, Now: now.now, App: app})
		first := seed(t, s, hub, portalID)
		hub.SetToken(hubspottest.TokenBehaviour{Life: time.Second, Rotate: true})
		for range 20 { // at one moment
			_, err := s.Credential(t.Context(), portalID)
			if !isError(t, err, &tokens.UnavailableError{}) {
				t.Fatalf("%v is not an UnavailableError with RetryAfter", err)
			}
		}
		wantCalls(t, hub, 1)
		if kept := field(t, client, "refresh_token"); kept == "" || kept == first {
			t.Error("the rotated refresh token is not stored")
		}
		late.Store(0)
		hub.SetToken(hubspottest.TokenBehaviour{Rotate: true})
		now.advance(time.Second)
		get(t, s, portalID)
		wantCalls(t, hub, 2)
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
