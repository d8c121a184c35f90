package tokens_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/redistest"
	"hubspot-auth-proxy/tokens/secret"
	"hubspot-auth-proxy/tokens/testkit"
)

func TestReplicasCallTheTokenEndpointOncePerExpiry(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	hub, now := newHub(t), newClock()
	hub.SetToken(hubspottest.TokenBehaviour{Latency: 100 * time.Millisecond})
	var sources []*tokens.Source
	for range 5 {
		sources = append(sources, newSource(t, hub, tokens.Options{Redis: dial(t, server), Now: now.now}))
	}
	seed(t, sources[0], hub, portalID)
	var last string
	for expiry := range 3 { // in the first round the caches are empty
		next := make(chan *tokens.Source, 1000)
		for i := range cap(next) {
			next <- sources[i%len(sources)]
		}
		results := together(cap(next), func() (*tokens.Credential, error) { return (<-next).Credential(t.Context(), portalID) })
		token := results[0].credential.Secret.Reveal()
		for _, r := range results {
			if r.err != nil || r.credential.Secret.Reveal() != token || token == last {
				t.Fatalf("not the new token: %v", r.err)
			}
		}
		last = token
		wantCalls(t, hub, 1+expiry)
		now.advance(tokenLife)
	}
}

// late returns two sources. The first has lost the lock during a renewal of the expired token:
// HubSpot has answered, and the answer has not arrived yet.
func late(t *testing.T, connect connector, behaviour hubspottest.TokenBehaviour) (hub *hubspottest.Server, now *clock, s, other *tokens.Source, g *gate, call <-chan result) {
	t.Helper()
	hub, now, g = newHub(t), newClock(), &gate{}
	hub.SetToken(behaviour)
	client := connect(t)
	s = newSource(t, hub, tokens.Options{Redis: client, Now: now.now, App: lateApp(t, hub, g)})
	other = newSource(t, hub, tokens.Options{Redis: connect(t), Now: now.now})
	listening(t, client, 2)
	seed(t, s, hub, portalID)
	get(t, s, portalID)
	get(t, other, portalID)
	now.advance(tokenLife)
	g.close()
	call = later(func() (*tokens.Credential, error) { return s.Credential(t.Context(), portalID) })
	testkit.Eventually(t, "the answer is held up", func() bool { return g.held.Load() == 1 })
	if err := client.Del(t.Context(), lockKey).Err(); err != nil {
		t.Fatal(err)
	}
	return hub, now, s, other, g, call
}

func TestALateAnswerDoesNotOverwriteANewerRecord(t *testing.T) {
	onEachRedis(t, func(t *testing.T, connect connector) {
		hub, _, s, other, g, call := late(t, connect, hubspottest.TokenBehaviour{})
		newer := get(t, other, portalID)
		client := connect(t)
		generation := field(t, client, "generation")
		g.open()
		if r := await(t, call); r.err != nil || !r.credential.Secret.Equal(newer.Secret) {
			t.Errorf("the late one gets another token: %v", r.err)
		}
		if field(t, client, "generation") != generation || !secret.New(field(t, client, "access_token")).Equal(newer.Secret) {
			t.Error("the newer record was overwritten")
		}
		for _, s := range []*tokens.Source{s, other} {
			if !get(t, s, portalID).Secret.Equal(newer.Secret) {
				t.Error("a source has another token")
			}
		}
		wantCalls(t, hub, 3)
	})
}

func TestALateAnswerWithTheOnlyValidRefreshTokenMakesThePortalActiveAgain(t *testing.T) {
	onEachRedis(t, func(t *testing.T, connect connector) {
		hub, now, s, other, g, call := late(t, connect, hubspottest.TokenBehaviour{Rotate: true})
		client := connect(t)
		generation := field(t, client, "generation")
		if !answers(t, other, portalID, &tokens.EndedError{}) {
			t.Error("the other has a token")
		}
		if field(t, client, "state") != "ended" || field(t, client, "ended_code") != "BAD_REFRESH_TOKEN" || field(t, client, "generation") != generation {
			t.Error("the record is not marked as ended, with its generation")
		}
		testkit.Eventually(t, "the late one knows", func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel() // the call does not wait for its own renewal
			_, err := s.Credential(ctx, portalID)
			return isError(t, err, &tokens.EndedError{})
		})
		g.open()
		if r := await(t, call); r.err != nil {
			t.Fatalf("the late one gets no token: %v", r.err)
		}
		revived := get(t, s, portalID)
		testkit.Eventually(t, "the other has the token", func() bool {
			c, err := other.Credential(t.Context(), portalID)
			return err == nil && c.Secret.Equal(revived.Secret)
		})
		now.advance(tokenLife)
		get(t, other, portalID) // with the new refresh token
		wantCalls(t, hub, 4)
	})
}

func TestAPortalRemovedDuringARenewalStaysRemoved(t *testing.T) {
	onEachRedis(t, func(t *testing.T, connect connector) {
		hub, now, s, other, g, call := late(t, connect, hubspottest.TokenBehaviour{Rotate: true})
		if err := other.Remove(t.Context(), portalID, "test"); err != nil {
			t.Fatal(err)
		}
		g.open()
		if r := await(t, call); !isError(t, r.err, tokens.ErrNotConnected) {
			t.Errorf("the late one gets %v", r.err)
		}
		now.advance(10 * time.Second)
		third := newSource(t, hub, tokens.Options{Redis: connect(t), Now: now.now})
		for _, s := range []*tokens.Source{s, other, third} {
			if !answers(t, s, portalID, tokens.ErrNotConnected) {
				t.Error("the portal is served")
			}
		}
		client := connect(t)
		if field(t, client, "state") != "removed" || field(t, client, "refresh_token")+field(t, client, "access_token") != "" {
			t.Error("the record is no tombstone")
		}
		// A new grant is accepted.
		hub.SetToken(hubspottest.TokenBehaviour{})
		seed(t, s, hub, portalID)
		testkit.Eventually(t, "the new grant is in force", func() bool { _, err := other.Credential(t.Context(), portalID); return err == nil })
	})
}

func TestAChangeByAnotherReplicaArrivesByMessage(t *testing.T) {
	onEachRedis(t, func(t *testing.T, connect connector) {
		hub, now := newHub(t), newClock() // the clock does not advance, so nothing is read again because of its age
		a := newSource(t, hub, tokens.Options{Redis: connect(t), Now: now.now})
		b := newSource(t, hub, tokens.Options{Redis: connect(t), Now: now.now})
		listening(t, connect(t), 2)
		put(t, a, portalID, tokens.APIKey, "1")
		get(t, b, portalID)
		put(t, a, portalID, tokens.APIKey, "2")
		testkit.Eventually(t, "the new value is in force", func() bool { return get(t, b, portalID).Secret.Reveal() == "2" })
		if err := a.Remove(t.Context(), portalID, "test"); err != nil {
			t.Fatal(err)
		}
		if !answers(t, a, portalID, tokens.ErrNotConnected) {
			t.Error("who removed it still serves it")
		}
		testkit.Eventually(t, "it is removed", func() bool { return answers(t, b, portalID, tokens.ErrNotConnected) })
	})
}

func TestAChangeWhoseMessageWasLostIsFoundByTheNextRegularRead(t *testing.T) {
	onEachFullRedis(t, func(t *testing.T, connect connector) {
		hub, now, client := newHub(t), newClock(), connect(t)
		s := newSource(t, hub, tokens.Options{Redis: connect(t), Now: now.now})
		put(t, s, portalID, tokens.APIKey, "1")
		testkit.Eventually(t, "it is known", func() bool { _, err := s.Credential(t.Context(), portalID); return err == nil })
		silently(t, client, "state", "removed")
		now.advance(72 * time.Second) // 60 s and a fifth
		testkit.Eventually(t, "it is removed", func() bool {
			now.advance(time.Second) // a reading may have been under way
			return answers(t, s, portalID, tokens.ErrNotConnected)
		})
	})
}

// held returns a client whose reads of the portal's record wait at the gate after Redis has
// answered.
func held(t *testing.T, connect connector, reading *gate) redis.UniversalClient {
	t.Helper()
	hooked := connect(t)
	if client, shared := hooked.(*redis.Client), connect(t) == hooked; shared {
		hooked = redis.NewClient(client.Options())
		t.Cleanup(func() { _ = hooked.Close() })
	}
	t.Cleanup(reading.open)
	hooked.AddHook(hook{after: func(cmd redis.Cmder) {
		if cmd.Name() == "hgetall" && strings.Contains(cmd.String(), recordKey) {
			reading.pass()
		}
	}})
	return hooked
}

func TestAReadThatBeganBeforeAMessageDoesNotUndoTheChange(t *testing.T) {
	onEachRedis(t, func(t *testing.T, connect connector) {
		hub, now, reading := newHub(t), newClock(), &gate{}
		b := newSource(t, hub, tokens.Options{Redis: connect(t), Now: now.now})
		put(t, b, portalID, tokens.APIKey, "1")
		a := newSource(t, hub, tokens.Options{Redis: held(t, connect, reading), Now: now.now})
		listening(t, connect(t), 2)

		reading.close()
		call := later(func() (*tokens.Credential, error) { return a.Credential(t.Context(), portalID) })
		testkit.Eventually(t, "the record is read", func() bool { return reading.held.Load() == 1 })
		if err := b.Remove(t.Context(), portalID, "test"); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, "a reads it again because of the event", func() bool { return reading.held.Load() == 2 })
		reading.open()
		if r := await(t, call); !isError(t, r.err, tokens.ErrNotConnected) {
			t.Errorf("the first call gets %v", r.err)
		}
		if !answers(t, a, portalID, tokens.ErrNotConnected) {
			t.Error("the removed portal is served")
		}
	})
}

// A process has found no record and reads the epoch. The portal is set meanwhile, and the read that
// the message causes takes longer.
func TestAPortalThatIsSetWhileItCountsAsUnknownIsServed(t *testing.T) {
	onEachRedis(t, func(t *testing.T, connect connector) {
		hub, now, reading, asking := newHub(t), newClock(), &gate{}, &gate{}
		b := newSource(t, hub, tokens.Options{Redis: connect(t), Now: now.now})
		put(t, b, "1", tokens.APIKey, "1")
		hooked := held(t, connect, reading)
		t.Cleanup(asking.open)
		hooked.AddHook(hook{after: func(cmd redis.Cmder) {
			if strings.Contains(cmd.String(), "hubspot:epoch") {
				asking.pass()
			}
		}})
		a := newSource(t, hub, tokens.Options{Redis: hooked, Now: now.now})
		listening(t, connect(t), 2)

		asking.close()
		before := asking.held.Load()
		call := later(func() (*tokens.Credential, error) { return a.Credential(t.Context(), portalID) })
		testkit.Eventually(t, "the epoch is read", func() bool { return asking.held.Load() > before })
		reading.close()
		put(t, b, portalID, tokens.APIKey, "1")
		testkit.Eventually(t, "the record is read because of the event", func() bool { return reading.held.Load() == 1 })
		release := reading.leave()
		defer release()
		asking.open()
		if r := await(t, call); r.err != nil {
			t.Errorf("the first call gets %v", r.err)
		}
		get(t, a, portalID)
	})
}

func TestAMessageThatIsLostDuringTheFirstReadIsMadeUpFor(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	connect := func(t *testing.T) redis.UniversalClient { return dial(t, server) }
	hub, now, reading := newHub(t), newClock(), &gate{} // the clock does not advance, so nothing is read because of its age
	b := newSource(t, hub, tokens.Options{Redis: connect(t), Now: now.now})
	put(t, b, portalID, tokens.APIKey, "1")
	a := newSource(t, hub, tokens.Options{Redis: held(t, connect, reading), Now: now.now})
	listening(t, connect(t), 2)

	reading.close()
	call := later(func() (*tokens.Credential, error) { return a.Credential(t.Context(), portalID) })
	testkit.Eventually(t, "the record is read", func() bool { return reading.held.Load() > 0 })
	if err := redistest.Admin(t, connect(t)).Do(t.Context(), "client", "kill", "type", "pubsub").Err(); err != nil {
		t.Fatal(err)
	}
	if err := b.Remove(t.Context(), portalID, "test"); err != nil {
		t.Fatal(err)
	}
	listening(t, connect(t), 2)
	reading.open()
	await(t, call)
	testkit.Eventually(t, "it is removed", func() bool { return answers(t, a, portalID, tokens.ErrNotConnected) })
}
