package tokens_test

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/secret"
	"hubspot-auth-proxy/tokens/store"
	"hubspot-auth-proxy/tokens/testkit"
)

// outages are the ways in which the token endpoint fails temporarily.
var outages = map[string]hubspottest.TokenBehaviour{
	"429":                   {Status: 429, RetryAfter: "7"},
	"500":                   {Status: 500},
	"502 with a web page":   {Status: 502, Body: "<html>Bad Gateway</html>"},
	"ended, but by a 503":   {Status: 503, Code: "BAD_REFRESH_TOKEN"},
	"nonsense":              {Status: 200, Body: "<html>OK</html>"},
	"an empty access_token": {EmptyAccessToken: true},
	"a token without life":  {Life: -time.Second},
	"a reset":               {Reset: true},
	"an unknown refusal":    {Code: "BAD_GRANT_TYPE"},
	"a hang":                {Hang: true},
}

func TestTheOldTokenIsUsedWhileTheTokenEndpointFails(t *testing.T) {
	t.Parallel()
	for name, behaviour := range outages {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, end := store.Embedded()
			t.Cleanup(end)
			hub, now := newHub(t), newClock()
			app := newApp(t, hub, nil)
			app.Client.Timeout = 300 * time.Millisecond
			s := newSource(t, hub, tokens.Options{Redis: client, Now: now.now, App: app})
			seed(t, s, hub, portalID)
			c := get(t, s, portalID)

			hub.SetToken(behaviour)
			now.advance(tokenLife - 2*time.Minute)
			for range 59 { // seconds
				now.advance(time.Second)
				if got := get(t, s, portalID); got != c {
					t.Fatal("not the old token")
				}
			}
			untilCalls(t, hub, 2)
			now.advance(61 * time.Second)
			_, err := s.Credential(t.Context(), portalID)
			if !isError(t, err, &tokens.UnavailableError{}) {
				t.Fatalf("after its end: %v", err)
			}
			if n := hub.TokenCalls(portalID); n < 2 || n > 12 {
				t.Errorf("%d token calls in 2 minutes", n)
			}
			// Recovery needs no restart.
			hub.SetToken(hubspottest.TokenBehaviour{})
			now.advance(30 * time.Second)
			if got := get(t, s, portalID); got.Secret.Equal(c.Secret) {
				t.Error("the token was not renewed")
			}
		})
	}
}

func TestTheTokenEndpointIsCalledLessOftenWhileItFails(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name        string
		behaviour   hubspottest.TokenBehaviour
		retryAfter  time.Duration // the smallest RetryAfter of the first error
		least, most int           // token calls in a minute
	}{
		{"500", hubspottest.TokenBehaviour{Status: 500}, time.Second, 5, 12},
		{"429 of 7 s", hubspottest.TokenBehaviour{Status: 429, RetryAfter: "7"}, 7 * time.Second, 9, 9},
		{"503 of 25 s", hubspottest.TokenBehaviour{Status: 503, RetryAfter: "25"}, 25 * time.Second, 3, 3},
		{"429 of a day", hubspottest.TokenBehaviour{Status: 429, RetryAfter: "86400"}, 5 * time.Minute, 1, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			client, end := store.Embedded()
			t.Cleanup(end)
			hub, now := newHub(t), newClock()
			s := newSource(t, hub, tokens.Options{Redis: client, Now: now.now})
			seed(t, s, hub, portalID)
			hub.SetToken(tt.behaviour)
			_, err := s.Credential(t.Context(), portalID)
			if unavailable, is := errors.AsType[*tokens.UnavailableError](err); !is || unavailable.RetryAfter < tt.retryAfter {
				t.Errorf("%v, %+v, want to try again after %v", err, unavailable, tt.retryAfter)
			}
			for range 599 {
				now.advance(100 * time.Millisecond)
				if !answers(t, s, portalID, &tokens.UnavailableError{}) {
					t.Fatal("not an UnavailableError")
				}
			}
			if n := hub.TokenCalls(portalID); n < tt.least || n > tt.most {
				t.Errorf("%d token calls in a minute, want %d to %d", n, tt.least, tt.most)
			}
		})
	}
}

// The clock may advance between two reads, for example if the machine was suspended.
func TestAPauseThatHasEndedAtOnceIsStillAnError(t *testing.T) {
	t.Parallel()
	client, end := store.Embedded()
	t.Cleanup(end)
	hub, now := newHub(t), newClock()
	now.step = time.Minute
	hub.SetToken(hubspottest.TokenBehaviour{Status: 500})
	s := newSource(t, hub, tokens.Options{Redis: client, Now: now.now})
	seed(t, s, hub, portalID)
	if c, err := s.Credential(t.Context(), portalID); c != nil || !isError(t, err, &tokens.UnavailableError{}) {
		t.Errorf("Credential = %v, %v", c, err)
	}
}

func TestThrottlingPausesAllPortalsForHubSpotsRetryAfter(t *testing.T) {
	onEachRedis(t, func(t *testing.T, connect connector) {
		hub, now, g := newHub(t), newClock(), &gate{}
		s := newSource(t, hub, tokens.Options{Redis: connect(t), Now: now.now, App: lateApp(t, hub, g)})
		seed(t, s, hub, "1")
		seed(t, s, hub, portalID)
		// A renewal that begins before and succeeds after does not end it.
		g.close()
		call := later(func() (*tokens.Credential, error) { return s.Credential(t.Context(), "1") })
		testkit.Eventually(t, "the answer is held up", func() bool { return g.held.Load() == 1 })
		hub.SetToken(hubspottest.TokenBehaviour{Status: http.StatusTooManyRequests, RetryAfter: "20"})
		release := g.leave()
		if !answers(t, s, portalID, &tokens.UnavailableError{}) {
			t.Error("not throttled")
		}
		release()
		if r := await(t, call); r.err != nil {
			t.Fatal(r.err)
		}
		hub.SetToken(hubspottest.TokenBehaviour{})
		now.advance(19 * time.Second)
		seed(t, s, hub, "2")
		for _, id := range []string{portalID, "2"} {
			if !answers(t, s, id, &tokens.UnavailableError{}) {
				t.Errorf("portal %s is not paused", id)
			}
		}
		now.advance(time.Second)
		get(t, s, portalID)
		get(t, s, "2")
		if n := hub.TokenCallsTotal(); n != 4 {
			t.Errorf("%d token calls, want 4", n)
		}
	})
}

// The pause begins while a renewal waits for that of another replica.
func TestAPauseAlsoAppliesToACallThatWaitsForTheLock(t *testing.T) {
	onEachRedis(t, func(t *testing.T, connect connector) {
		hub, client := newHub(t), connect(t)
		s := newSource(t, hub, tokens.Options{Redis: client})
		seed(t, s, hub, "1")
		seed(t, s, hub, portalID)
		locks := counter(client, lockKey)
		if err := client.Set(t.Context(), lockKey, "another", time.Minute).Err(); err != nil {
			t.Fatal(err)
		}
		before := locks.Load()
		call := later(func() (*tokens.Credential, error) { return s.Credential(t.Context(), portalID) })
		testkit.Eventually(t, "it waits for the lock", func() bool { return locks.Load() > before+1 })
		hub.SetToken(hubspottest.TokenBehaviour{Status: http.StatusTooManyRequests, RetryAfter: "20"})
		if !answers(t, s, "1", &tokens.UnavailableError{}) {
			t.Fatal("not throttled")
		}
		if err := client.Del(t.Context(), lockKey).Err(); err != nil {
			t.Fatal(err)
		}
		if r := await(t, call); !isError(t, r.err, &tokens.UnavailableError{}) {
			t.Errorf("it gets %v", r.err)
		}
		wantCalls(t, hub, 0)
	})
}

func TestARefusedAppPausesAllPortalsAndEndsNone(t *testing.T) {
	onEachRedis(t, func(t *testing.T, connect connector) {
		hub, now, client := newHub(t), newClock(), connect(t)
		wrong := newApp(t, hub, nil)
		wrong.ClientSecret = secret.New(hubspottest.Canary + "-wrong")
		s := newSource(t, hub, tokens.Options{Redis: client, Now: now.now, App: wrong})
		ids := []string{portalID, "1", "2", "3"}
		for _, id := range ids {
			seed(t, s, hub, id)
		}
		for _, id := range ids {
			if !answers(t, s, id, &tokens.UnavailableError{}) {
				t.Errorf("portal %s: not an UnavailableError", id)
			}
		}
		if n := hub.TokenCallsTotal(); n != 1 {
			t.Errorf("%d token calls, want 1", n)
		}
		if state := field(t, client, "state"); state != "active" {
			t.Errorf("the record is %s", state)
		}
		right := newSource(t, hub, tokens.Options{Redis: connect(t), Now: now.now})
		for _, id := range ids {
			get(t, right, id)
		}
		now.advance(30 * time.Second)
		for _, id := range ids {
			get(t, s, id) // with the token that the other source has stored
		}
	})
}

func TestAnEndedGrantIsNotTriedBeforeItsTimeUnlessThePortalIsConnectedAgain(t *testing.T) {
	t.Parallel()
	for _, code := range []string{"BAD_REFRESH_TOKEN", "BAD_HUB"} {
		for shape, old := range map[string]bool{"in today's shape": false, "in the old shape": true} {
			t.Run(code+" "+shape, func(t *testing.T) {
				onEachRedis(t, func(t *testing.T, connect connector) {
					hub, now, client := newHub(t), newClock(), connect(t)
					a := newSource(t, hub, tokens.Options{Redis: client, Now: now.now})
					b := newSource(t, hub, tokens.Options{Redis: connect(t), Now: now.now})
					listening(t, client, 2)
					seed(t, a, hub, portalID)
					hub.SetToken(hubspottest.TokenBehaviour{Code: code, OldShape: old})
					for _, s := range []*tokens.Source{a, b} {
						for range 50 {
							_, err := s.Credential(t.Context(), portalID)
							if ended, is := errors.AsType[*tokens.EndedError](err); !is || ended.Code != code || ended.Portal != portalID {
								t.Fatalf("%v, want an EndedError with %s", err, code)
							}
							now.advance(time.Second / 2)
						}
					}
					wantCalls(t, hub, 1)
					hub.SetToken(hubspottest.TokenBehaviour{})
					seed(t, a, hub, portalID)
					for _, s := range []*tokens.Source{a, b} {
						testkit.Eventually(t, "the new grant is in force", func() bool {
							_, err := s.Credential(t.Context(), portalID)
							return err == nil
						})
					}
					wantCalls(t, hub, 2)
				})
			})
		}
	}
}

func TestWithoutAnAppNothingIsRenewed(t *testing.T) {
	t.Parallel()
	client, end := store.Embedded()
	t.Cleanup(end)
	s := tokens.NewSource(tokens.Options{Redis: client, Prefix: "hubspot:"})
	t.Cleanup(func() { _ = s.Close(t.Context()) })
	put(t, s, portalID, tokens.OAuth, "x")
	if !answers(t, s, portalID, &tokens.UnavailableError{}) {
		t.Error("not an UnavailableError")
	}
}
