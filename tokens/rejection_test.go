package tokens_test

import (
	"net/http"
	"testing"
	"time"

	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/store"
	"hubspot-auth-proxy/tokens/testkit"
)

// The contract's "how often", one row each: what was done with the token
// before HubSpot rejected it, and whether it is renewed then.
func TestARejectionRenewsAsOftenAsPromised(t *testing.T) {
	t.Parallel()
	const seconds = time.Second
	for _, tt := range []struct {
		name     string
		first    time.Duration // age of the token at its first rejection, by EXPIRED_AUTHENTICATION; 0: there is none
		served   bool          // whether it, or the one that came of that, has served a request
		age      time.Duration // its age at the rejection in question
		expired  bool          // by EXPIRED_AUTHENTICATION
		renewals int
	}{
		{"expired, just renewed for expiry", 0, false, 1 * seconds, true, 1},
		{"expired, just renewed for a rejection", 40 * seconds, false, 1 * seconds, true, 0},
		{"expired, renewed 29 s ago for a rejection", 40 * seconds, false, 29 * seconds, true, 0},
		{"expired, renewed 30 s ago for a rejection", 40 * seconds, false, 30 * seconds, true, 1},
		{"expired, just renewed for a rejection, and served", 40 * seconds, true, 1 * seconds, true, 1},
		{"other, just renewed for expiry", 0, false, 1 * seconds, false, 0},
		{"other, just renewed for expiry, and served", 0, true, 1 * seconds, false, 0},
		{"other, renewed 29 s ago for expiry", 0, false, 29 * seconds, false, 0},
		{"other, renewed 30 s ago for expiry", 0, false, 30 * seconds, false, 1},
		{"other, renewed 29 s ago for a rejection", 40 * seconds, true, 29 * seconds, false, 0},
		{"other, renewed 30 s ago for a rejection", 40 * seconds, false, 30 * seconds, false, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			onEachRedis(t, func(t *testing.T, connect connector) {
				hub, now := newHub(t), newClock()
				s := newSource(t, hub, tokens.Options{Redis: connect(t), Now: now.now})
				other := newSource(t, hub, tokens.Options{Redis: connect(t), Now: now.now})
				seed(t, s, hub, portalID)
				c := get(t, s, portalID)
				if tt.first > 0 {
					now.advance(tt.first)
					var err error
					if c, err = s.Renew(t.Context(), c, true); err != nil {
						t.Fatal(err)
					}
				}
				before := hub.TokenCalls(portalID)
				if !tt.served {
					// The other replica reads from the record when and why it was renewed.
					c, s = get(t, other, portalID), other
				} else {
					c.Answered(http.StatusOK)
				}
				now.advance(tt.age)
				got, err := s.Renew(t.Context(), c, tt.expired)
				if tt.renewals == 0 && !isError(t, err, tokens.ErrNoOther) {
					t.Errorf("Renew: %v, want ErrNoOther", err)
				}
				if tt.renewals == 1 && (err != nil || got.Secret.Equal(c.Secret)) {
					t.Errorf("Renew: %v, want another token", err)
				}
				wantCalls(t, hub, before+tt.renewals)
			})
		})
	}
}

func TestAPortalThatIsAlwaysRejectedIsRenewedOnceEvery30Seconds(t *testing.T) {
	onEachRedis(t, func(t *testing.T, connect connector) {
		hub, now := newHub(t), newClock()
		sources := []*tokens.Source{
			newSource(t, hub, tokens.Options{Redis: connect(t), Now: now.now}),
			newSource(t, hub, tokens.Options{Redis: connect(t), Now: now.now}),
		}
		seed(t, sources[0], hub, portalID)
		get(t, sources[0], portalID)
		now.advance(time.Minute)
		// Some requests are served in between, which does not matter here.
		for i := range 1000 {
			now.advance(29 * time.Millisecond)
			s := sources[i%2]
			c := get(t, s, portalID)
			c.Answered(http.StatusOK)
			got, err := s.Renew(t.Context(), c, false)
			if err == nil && got.Secret.Equal(c.Secret) {
				t.Fatal("Renew returns what was rejected")
			}
			if err != nil && !isError(t, err, tokens.ErrNoOther) {
				t.Fatal(err)
			}
		}
		wantCalls(t, hub, 2)
	})
}

func TestAFailedRenewalForARejectionIsNotRepeatedFor30Seconds(t *testing.T) {
	t.Parallel()
	client, end := store.Embedded()
	t.Cleanup(end)
	hub, now := newHub(t), newClock()
	s := newSource(t, hub, tokens.Options{Redis: client, Now: now.now})
	seed(t, s, hub, portalID)
	c := get(t, s, portalID)
	now.advance(time.Minute)
	hub.SetToken(hubspottest.TokenBehaviour{Status: 500})
	if _, err := s.Renew(t.Context(), c, false); !isError(t, err, &tokens.UnavailableError{}) {
		t.Errorf("Renew: %v", err)
	}
	for range 29 {
		now.advance(time.Second)
		if _, err := s.Renew(t.Context(), c, false); !isError(t, err, tokens.ErrNoOther) {
			t.Errorf("Renew: %v", err)
		}
	}
	wantCalls(t, hub, 2)
	if get(t, s, portalID) != c {
		t.Error("the old token is not used while it lives")
	}
}

func TestConcurrentRejectionsOfATokenRenewItOnce(t *testing.T) {
	onEachRedis(t, func(t *testing.T, connect connector) {
		hub := newHub(t)
		s := newSource(t, hub, tokens.Options{Redis: connect(t)})
		seed(t, s, hub, portalID)
		for i, expired := range []bool{true, true} {
			c := get(t, s, portalID)
			c.Answered(http.StatusOK)
			hub.SetToken(hubspottest.TokenBehaviour{Latency: 50 * time.Millisecond})
			for _, r := range together(100, func() (*tokens.Credential, error) { return s.Renew(t.Context(), c, expired) }) {
				if r.err != nil || r.credential.Secret.Equal(c.Secret) {
					t.Fatalf("not another token: %v", r.err)
				}
			}
			wantCalls(t, hub, 2+i)
		}
	})
}

func TestATokenThatAnotherReplicaHasRenewedIsUsed(t *testing.T) {
	onEachRedis(t, func(t *testing.T, connect connector) {
		hub, now := newHub(t), newClock()
		a := newSource(t, hub, tokens.Options{Redis: connect(t), Now: now.now})
		b := newSource(t, hub, tokens.Options{Redis: connect(t), Now: now.now})
		seed(t, a, hub, portalID)
		old, ofB := get(t, a, portalID), get(t, b, portalID)
		now.advance(time.Minute)
		renewed, err := a.Renew(t.Context(), old, true)
		if err != nil {
			t.Fatal(err)
		}
		// This works with and without the message.
		for range 100 {
			got, err := b.Renew(t.Context(), ofB, true)
			if err != nil || !got.Secret.Equal(renewed.Secret) {
				t.Fatalf("not what the other has renewed: %v", err)
			}
		}
		wantCalls(t, hub, 2)
	})
}

func TestARejectedStaticCredentialIsReadAgainOnceASecond(t *testing.T) {
	t.Parallel()
	for _, kind := range []tokens.Kind{tokens.AccessToken, tokens.APIKey} {
		t.Run(string(kind), func(t *testing.T) {
			onEachFullRedis(t, func(t *testing.T, connect connector) {
				hub, now, client := newHub(t), newClock(), connect(t)
				s := newSource(t, hub, tokens.Options{Redis: client, Now: now.now})
				put(t, s, portalID, kind, hubspottest.Canary+"-1")
				testkit.Eventually(t, "the seed's event has come", func() bool { _, err := s.Credential(t.Context(), portalID); return err == nil })
				c := get(t, s, portalID)
				reads := counter(client, recordKey)
				for range 1000 {
					now.advance(20 * time.Millisecond)
					if _, err := s.Renew(t.Context(), c, false); !isError(t, err, tokens.ErrNoOther) {
						t.Fatalf("Renew: %v", err)
					}
				}
				// There is one read a second. If the message about the seed arrives now, it
				// causes another read, which starts again with each of them.
				if n := reads.Load(); n < 19 || n > 50 {
					t.Errorf("%d reads in 20 s, want 20", n)
				}
				// The credential is replaced without a message.
				name := map[tokens.Kind]string{tokens.AccessToken: "access_token", tokens.APIKey: "api_key"}[kind]
				silently(t, client, name, hubspottest.Canary+"-2")
				now.advance(time.Second)
				got, err := s.Renew(t.Context(), c, false)
				if err != nil || got.Secret.Reveal() != hubspottest.Canary+"-2" || got.Kind != kind {
					t.Errorf("Renew: %v, want the new value", err)
				}
				if hub.TokenCallsTotal() != 0 {
					t.Error("the token endpoint was called")
				}
			})
		})
	}
}

// Another replica has replaced a token that was just renewed, and its message is lost.
func TestARejectedTokenIsReadAgainWhenItIsTooEarlyToRenewIt(t *testing.T) {
	onEachFullRedis(t, func(t *testing.T, connect connector) {
		hub, now, client := newHub(t), newClock(), connect(t)
		s := newSource(t, hub, tokens.Options{Redis: client, Now: now.now})
		seed(t, s, hub, portalID)
		first := get(t, s, portalID)
		now.advance(time.Minute)
		rejected, err := s.Renew(t.Context(), first, false)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Renew(t.Context(), rejected, true); !isError(t, err, tokens.ErrNoOther) {
			t.Fatalf("Renew: %v", err)
		}
		silently(t, client, "access_token", hubspottest.Canary+"-2")
		now.advance(time.Second)
		if got, err := s.Renew(t.Context(), rejected, true); err != nil || got.Secret.Reveal() != hubspottest.Canary+"-2" {
			t.Errorf("Renew: %v, want the token in Redis", err)
		}
		wantCalls(t, hub, 2)
	})
}
