package tokens_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/redistest"
	"hubspot-auth-proxy/tokens/secret"
	"hubspot-auth-proxy/tokens/testkit"
)

// load calls Credential until stop is called. stop returns the number of calls. Each call must
// succeed.
func load(t *testing.T, s *tokens.Source) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			ticker := time.NewTicker(2 * time.Millisecond)
			defer ticker.Stop()
			for ctx.Err() == nil {
				if _, err := s.Credential(t.Context(), portalID); err != nil {
					t.Errorf("a call failed: %v", err)
					return
				}
				<-ticker.C
			}
		})
	}
	return sync.OnceFunc(func() { cancel(); clients.Wait() })
}

func TestAKnownPortalIsServedAndRenewedWhileRedisIsUnreachable(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		options []redistest.Option
		stop    func(*redistest.Server)
		start   func(*redistest.Server)
	}{
		{"killed, its data kept", []redistest.Option{redistest.Persist()}, (*redistest.Server).Kill, (*redistest.Server).Restart},
		{"killed, its data lost", nil, (*redistest.Server).Kill, (*redistest.Server).Restart},
		{"paused", nil, (*redistest.Server).Pause, (*redistest.Server).Resume},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t, tt.options...)
			hub, now := newHub(t), newClock()
			hub.SetToken(hubspottest.TokenBehaviour{Rotate: true})
			s := newSource(t, hub, tokens.Options{Redis: dial(t, server), Now: now.now})
			seed(t, s, hub, portalID)
			current := get(t, s, portalID)

			stop := load(t, s)
			defer stop()
			tt.stop(server)
			now.advance(tokenLife - 2*time.Minute)
			testkit.Eventually(t, "it is renewed ahead", func() bool { return hasOther(s, current) })
			current = get(t, s, portalID)
			now.advance(tokenLife)
			testkit.Eventually(t, "it is renewed when it has expired", func() bool { return hasOther(s, current) })
			current = get(t, s, portalID)
			tt.start(server)
			client := dial(t, server)
			testkit.Eventually(t, "what was renewed is stored", func() bool {
				return secret.New(field(t, client, "access_token")).Equal(current.Secret)
			})
			stop()
			wantCalls(t, hub, 3)
			// The stored refresh token must be valid.
			now.advance(tokenLife)
			get(t, newSource(t, hub, tokens.Options{Redis: client, Now: now.now}), portalID)
		})
	}
}

// A server that Redis' failover has just made a replica takes no writes, and a refresh
// token that HubSpot has rotated would be in memory only.
func TestNoTokenIsRenewedAheadOfTimeWhileRedisRefusesWrites(t *testing.T) {
	t.Parallel()
	for name, refusal := range map[string]struct {
		code       string
		begin, end func(*redistest.Server)
	}{
		"a replica": {"READONLY", (*redistest.Server).RestartReadOnly, func(s *redistest.Server) { s.Do("REPLICAOF", "NO", "ONE") }},
		"no memory": {"OOM", func(s *redistest.Server) { s.Do("CONFIG", "SET", "maxmemory", "1") }, func(s *redistest.Server) { s.Do("CONFIG", "SET", "maxmemory", "0") }},
		"no replicas": {"NOREPLICAS", func(s *redistest.Server) { s.Do("CONFIG", "SET", "min-replicas-to-write", "1") },
			func(s *redistest.Server) { s.Do("CONFIG", "SET", "min-replicas-to-write", "0") }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			notRenewedAheadOfTime(t, refusal.code, refusal.begin, refusal.end)
		})
	}
}

// notRenewedAheadOfTime fails the test if a token is renewed ahead of time between begin and end,
// which make Redis refuse writes with this code and accept them again.
func notRenewedAheadOfTime(t *testing.T, code string, begin, end func(*redistest.Server)) {
	server := redistest.Start(t, redistest.Persist())
	hub, now := newHub(t), newClock()
	hub.SetToken(hubspottest.TokenBehaviour{Rotate: true})
	s := newSource(t, hub, tokens.Options{Redis: dial(t, server), Now: now.now})
	seed(t, s, hub, portalID)
	first := get(t, s, portalID)
	testkit.Eventually(t, "the lock is released", func() bool { return server.Do("EXISTS", lockKey) == "0" })
	begin(server)
	now.advance(tokenLife - 2*time.Minute)
	testkit.Eventually(t, "it is tried again", func() bool {
		now.advance(50 * time.Millisecond)
		return get(t, s, portalID).Secret.Equal(first.Secret) && refusedWrites(server, code) > 6 // a try is up to four commands
	})
	wantCalls(t, hub, 1)
	end(server)
	testkit.Eventually(t, "it is renewed ahead of time", func() bool {
		now.advance(time.Second)
		return hasOther(s, first)
	})
	wantCalls(t, hub, 2)
}

// refusedWrites returns how many commands the server has refused with this code.
func refusedWrites(server *redistest.Server, code string) (n int) {
	if _, count, found := strings.Cut(server.Do("INFO", "errorstats"), "errorstat_"+code+":count="); found {
		_, _ = fmt.Sscan(count, &n)
	}
	return n
}

func TestARefusedGrantIsNotFinalWithoutRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Persist())
	hub, now := newHub(t), newClock()
	hub.SetToken(hubspottest.TokenBehaviour{Rotate: true})
	clientA := dial(t, server)
	a := newSource(t, hub, tokens.Options{Redis: clientA, Now: now.now})
	b := newSource(t, hub, tokens.Options{Redis: dial(t, server), Now: now.now})
	seed(t, a, hub, portalID)
	get(t, a, portalID)
	get(t, b, portalID)
	now.advance(tokenLife)
	cutA := cutoff(clientA)
	cutA.Store(true)
	server.Kill()
	newer := get(t, b, portalID) // the former refresh token is invalid now
	if !answers(t, a, portalID, &tokens.UnavailableError{}) {
		t.Error("it is not merely unavailable")
	}
	server.Restart()
	testkit.Eventually(t, "the newer one is stored", func() bool {
		return secret.New(field(t, dial(t, server), "access_token")).Equal(newer.Secret)
	})
	cutA.Store(false)
	testkit.Eventually(t, "a has the newer one", func() bool {
		now.advance(time.Second)
		c, err := a.Credential(t.Context(), portalID)
		return err == nil && c.Secret.Equal(newer.Secret)
	})
	wantCalls(t, hub, 3)
}

func TestADamagedRecordDoesNotKeepTheGrantOfAnotherPortalFromEnding(t *testing.T) {
	onEachRedis(t, func(t *testing.T, connect connector) {
		hub, now, client := newHub(t), newClock(), connect(t)
		s := newSource(t, hub, tokens.Options{Redis: client, Now: now.now})
		seed(t, s, hub, portalID)
		get(t, s, portalID)
		client.Set(t.Context(), "hubspot:portal:{99}", "x", 0)
		now.advance(tokenLife)
		if !answers(t, s, "99", &tokens.UnavailableError{}) {
			t.Error("the damaged one is not unavailable")
		}
		hub.SetToken(hubspottest.TokenBehaviour{Status: 400, Body: `{"status":"BAD_REFRESH_TOKEN"}`})
		if !answers(t, s, portalID, &tokens.EndedError{}) {
			t.Error("the other's grant has not ended")
		}
	})
}

// Two processes write back the records that they hold. One of them has renewed meanwhile.
func TestTheNewestRecordStaysWhenProcessesWriteBack(t *testing.T) {
	t.Parallel()
	for name, lastWritten := range map[string]bool{"the newest last": true, "the newest first": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			hub, now := newHub(t), newClock()
			hub.SetToken(hubspottest.TokenBehaviour{Rotate: true})
			clientA, clientB := dial(t, server), dial(t, server)
			a := newSource(t, hub, tokens.Options{Redis: clientA, Now: now.now})
			b := newSource(t, hub, tokens.Options{Redis: clientB, Now: now.now})
			seed(t, a, hub, portalID)
			old := get(t, a, portalID)
			get(t, b, portalID)
			cutA, cutB := cutoff(clientA), cutoff(clientB)
			cutA.Store(true)
			cutB.Store(true)
			server.Kill()
			now.advance(time.Minute)
			newest, err := a.Renew(t.Context(), old, true)
			if err != nil {
				t.Fatal(err)
			}
			server.Restart()
			client := dial(t, server)
			stored := func(c *tokens.Credential) func() bool {
				return func() bool { return secret.New(field(t, client, "access_token")).Equal(c.Secret) }
			}
			if lastWritten {
				cutB.Store(false)
				testkit.Eventually(t, "b has written", stored(old))
				cutA.Store(false)
			} else {
				cutA.Store(false)
				testkit.Eventually(t, "a has written", stored(newest))
				cutB.Store(false)
			}
			for _, s := range []*tokens.Source{a, b} {
				testkit.Eventually(t, "both have the newest", func() bool {
					now.advance(100 * time.Millisecond) // the message may have been sent before the subscription existed again
					return get(t, s, portalID).Secret.Equal(newest.Secret)
				})
			}
			testkit.Eventually(t, "Redis has the newest", stored(newest))
			now.advance(tokenLife)
			get(t, b, portalID) // with its refresh token
		})
	}
}

func TestASeedInAnEmptiedRedisReplacesNothingNewer(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	hub, now := newHub(t), newClock()
	hub.SetToken(hubspottest.TokenBehaviour{Rotate: true})
	clientA := dial(t, server)
	a := newSource(t, hub, tokens.Options{Redis: clientA, Now: now.now})
	first := seed(t, a, hub, portalID)
	held := get(t, a, portalID)
	cutA := cutoff(clientA)
	cutA.Store(true)
	server.Restart()
	b := newSource(t, hub, tokens.Options{Redis: dial(t, server), Now: now.now})
	put(t, b, portalID, tokens.OAuth, first)
	if !answers(t, b, portalID, &tokens.EndedError{}) {
		t.Error("the seed's refresh token should have ended")
	}
	cutA.Store(false)
	testkit.Eventually(t, "b has what a holds", func() bool {
		now.advance(100 * time.Millisecond)
		c, err := b.Credential(t.Context(), portalID)
		return err == nil && c.Secret.Equal(held.Secret)
	})
	now.advance(tokenLife)
	get(t, b, portalID)
}

// During the token call, this process itself writes back the record that it renews from.
func TestNothingIsLostWhenRedisIsEmptiedDuringARenewal(t *testing.T) {
	t.Parallel()
	for name, cutOff := range map[string]bool{"and answers": false, "and is unreachable again": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			hub, now, g := newHub(t), newClock(), &gate{}
			hub.SetToken(hubspottest.TokenBehaviour{Rotate: true})
			client := dial(t, server)
			s := newSource(t, hub, tokens.Options{Redis: client, Now: now.now, App: lateApp(t, hub, g)})
			seed(t, s, hub, portalID)
			old := get(t, s, portalID)
			now.advance(time.Minute)
			g.close()
			call := later(func() (*tokens.Credential, error) { return s.Renew(t.Context(), old, true) })
			testkit.Eventually(t, "the answer is held up", func() bool { return g.held.Load() == 1 })
			server.Restart()
			direct := dial(t, server)
			testkit.Eventually(t, "the old one is stored again", func() bool {
				return secret.New(field(t, direct, "access_token")).Equal(old.Secret)
			})
			now.advance(time.Second)
			c := cutoff(client)
			c.Store(cutOff)
			g.open()
			r := await(t, call)
			if r.err != nil || r.credential.Secret.Equal(old.Secret) {
				t.Fatalf("no new token: %v", r.err)
			}
			c.Store(false)
			testkit.Eventually(t, "the new one is stored", func() bool {
				return secret.New(field(t, direct, "access_token")).Equal(r.credential.Secret)
			})
			now.advance(tokenLife)
			get(t, s, portalID) // with its refresh token
		})
	}
}

// All calls happen at the same time, when the token has expired.
func TestAProcessRenewsOncePerExpiryWithoutRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	hub, now := newHub(t), newClock()
	hub.SetToken(hubspottest.TokenBehaviour{Rotate: true})
	client := dial(t, server)
	s := newSource(t, hub, tokens.Options{Redis: client, Now: now.now})
	seed(t, s, hub, portalID)
	get(t, s, portalID)
	cutoff(client).Store(true)
	for i := range 30 {
		now.advance(tokenLife)
		for _, r := range together(200, func() (*tokens.Credential, error) { return s.Credential(t.Context(), portalID) }) {
			if r.err != nil {
				t.Fatal(r.err)
			}
		}
		wantCalls(t, hub, 2+i)
	}
}

// The portal is removed while this process is cut off from Redis and renews twice. Redis' clock is
// behind.
func TestARemovalIsNewerThanRenewalsWithoutRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	hub, now := newHub(t), newClock()
	clientA := dial(t, server)
	a := newSource(t, hub, tokens.Options{Redis: clientA, Now: now.now})
	b := newSource(t, hub, tokens.Options{Redis: dial(t, server), Now: now.now})
	seed(t, b, hub, portalID)
	get(t, b, portalID)
	silently(t, dial(t, server), "generation", "8000000000000000")
	get(t, a, portalID)
	cutA := cutoff(clientA)
	cutA.Store(true)
	for range 2 {
		now.advance(tokenLife)
		get(t, a, portalID)
	}
	if err := b.Remove(t.Context(), portalID, "test"); err != nil {
		t.Fatal(err)
	}
	cutA.Store(false)
	testkit.Eventually(t, "it is removed", func() bool {
		now.advance(time.Second)
		return answers(t, a, portalID, tokens.ErrNotConnected)
	})
}

// The pause that a refused refresh token has caused does not apply to the next refresh token.
func TestANewGrantIsRenewedAtOnceAfterFailuresOfTheFormerGrant(t *testing.T) {
	onEachRedis(t, func(t *testing.T, connect connector) {
		hub, now, client := newHub(t), newClock(), connect(t)
		s := newSource(t, hub, tokens.Options{Redis: client, Now: now.now})
		operator := newSource(t, hub, tokens.Options{Redis: connect(t), Now: now.now})
		listening(t, client, 2)
		seed(t, operator, hub, portalID)
		get(t, s, portalID)
		now.advance(tokenLife)
		hub.SetToken(hubspottest.TokenBehaviour{Status: 500})
		for range 10 {
			now.advance(time.Minute)
			if !answers(t, s, portalID, &tokens.UnavailableError{}) {
				t.Fatal("it has a token")
			}
		}
		hub.SetToken(hubspottest.TokenBehaviour{})
		if !answers(t, s, portalID, &tokens.UnavailableError{}) {
			t.Fatal("there is no pause")
		}
		if err := operator.Set(t.Context(), tokens.Seed{Portal: portalID, Kind: tokens.OAuth, Secret: secret.New(hub.Connect(portalID))}, "test"); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, "the new grant serves", func() bool {
			_, err := s.Credential(t.Context(), portalID)
			return err == nil
		})
	})
}

// While Redis was unreachable, a replica got a new refresh token, which is not stored yet.
func TestANewProcessWaitsForTheRefreshTokenOfAnotherReplica(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	hub := newHub(t)
	hub.SetToken(hubspottest.TokenBehaviour{Rotate: true})
	wire := server.Wire(t)
	cutOff := open(t, wire.URL())
	replica := newSource(t, hub, tokens.Options{Redis: cutOff})
	seed(t, replica, hub, portalID)
	get(t, replica, portalID)
	wire.Cut()
	hub.Expire(portalID)
	current, err := replica.Renew(t.Context(), get(t, replica, portalID), true)
	if err != nil {
		t.Fatal(err)
	}
	calls := hub.TokenCalls(portalID)

	s := newSource(t, hub, tokens.Options{Redis: dial(t, server), Settle: time.Minute})
	renewed := make(chan error)
	go func() {
		stale := get(t, s, portalID)
		next, err := s.Renew(t.Context(), stale, true)
		if err == nil && !next.Secret.Equal(current.Secret) {
			err = fmt.Errorf("the credential is not that of the other replica")
		}
		renewed <- err
	}()
	testkit.Eventually(t, "HubSpot refuses the former refresh token", func() bool { return hub.TokenCalls(portalID) > calls })
	wire.Mend()
	if err := <-renewed; err != nil {
		t.Error(err)
	}
}

// go-redis repeats a command on another connection, so no command fails when Redis restarts at once.
func TestARestartOfRedisBetweenTwoCommandsIsSeen(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Persist())
	hub := newHub(t)
	client := dial(t, server)
	s := newSource(t, hub, tokens.Options{Redis: client})
	seed(t, s, hub, portalID)
	stale := get(t, s, portalID)
	listening(t, client, 1)
	server.Kill()
	server.Restart()
	listening(t, client, 1)
	hub.SetToken(hubspottest.TokenBehaviour{Code: "BAD_REFRESH_TOKEN"})
	hub.Expire(portalID)
	_, err := s.Renew(t.Context(), stale, true)
	if _, is := errors.AsType[*tokens.EndedError](err); err == nil || is {
		t.Errorf("just after a restart of Redis: %v", err)
	}
}
