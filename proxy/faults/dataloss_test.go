package faults

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/redistest"
	"hubspot-auth-proxy/tokens/testkit"
)

// later is a portal that is connected while the processes run.
const later = "62600"

// set gives a portal a static token by the command portal set.
func (s *stage) set(redis *redistest.Server, portal string) {
	s.t.Helper()
	token := fmt.Sprintf("pat-na1-%s-%s", hubspottest.Canary, portal)
	s.hub.SetAccessToken(portal, token)
	s.command(redis, token, "portal", "set", portal, "access_token")
}

// write sends a POST for the portal with a target of its own.
func (s *stage) write(r *replica, portal string) result {
	return r.call("POST", objectOf(portal, fmt.Sprint("asked-", s.writes.Add(1))))
}

// waitForStatus waits until each replica answers requests for the portal with the
// status.
func (s *stage) waitForStatus(status int, portal string, replicas ...*replica) {
	s.t.Helper()
	for _, r := range replicas {
		var got result
		testkit.Within(s.t, 10*time.Second, fmt.Sprintf("portal %s is answered %d at %s", portal, status, r.Address), func() bool {
			got = s.write(r, portal)
			return got.status == status
		})
	}
}

// wantStatusFor checks, for the duration lasts, that each replica answers requests for
// the portal with this status only.
func (s *stage) wantStatusFor(status int, portal string, lasts time.Duration, replicas ...*replica) {
	s.t.Helper()
	for end := time.Now().Add(lasts); time.Now().Before(end); <-time.After(100 * time.Millisecond) {
		for _, r := range replicas {
			if got := s.write(r, portal); got.status != status {
				s.t.Fatalf("portal %s is answered %s at %s, not %d: %s", portal, got.kind(), r.Address, status, got.body)
			}
		}
	}
}

// rollBack kills Redis and starts it with the data of its last snapshot.
func rollBack(redis *redistest.Server) {
	redis.Kill()
	redis.Restart()
}

func TestAPortalConnectedAfterTheSnapshotIsServedWhenRedisIsRolledBack(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	redis := s.startTwo()
	redis.Do("save")
	s.set(redis, later)
	s.connect(redis)
	for _, portal := range []string{later, first} {
		s.waitForStatus(http.StatusOK, portal, s.replicas...)
	}
	rollBack(redis)
	for _, portal := range []string{later, first} {
		s.wantStatusFor(http.StatusOK, portal, 6*time.Second, s.replicas...)
	}
	s.waitForStatus(http.StatusOK, later, launch(t, append(s.settings, "REDIS_URL="+redis.URL())))
	s.wantNothingLost()
}

func TestARemovedPortalStaysRemovedWhenRedisIsRolledBack(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	redis := s.startTwo()
	s.set(redis, later)
	s.waitForStatus(http.StatusOK, later, s.replicas...)
	redis.Do("save")
	s.command(redis, "", "portal", "remove", later)
	s.waitForStatus(http.StatusForbidden, later, s.replicas...)
	rollBack(redis)
	fresh := launch(t, append(s.settings, "REDIS_URL="+redis.URL())) // nothing has called this replica for the portal
	s.waitForStatus(http.StatusForbidden, later, fresh)
	s.wantStatusFor(http.StatusForbidden, later, 3*time.Second, append(s.replicas, fresh)...)
}

// One process is cut off from Redis and misses a change of a portal. Then Redis is
// restarted empty, and both processes write back what they hold, in either order.
func TestAProcessDoesNotUndoAChangeThatItMissed(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*stage, *redistest.Server)
		status int
	}{
		"the portal was connected again": {func(s *stage, redis *redistest.Server) { s.connect(redis) }, http.StatusOK},
		"the portal was removed":         {func(s *stage, redis *redistest.Server) { s.command(redis, "", "portal", "remove", first) }, http.StatusForbidden},
	} {
		for _, order := range []string{"the process that missed it writes first", "the other process writes first"} {
			t.Run(name+", "+order, func(t *testing.T) {
				t.Parallel()
				s := newStage(t)
				s.hub.SetToken(hubspottest.TokenBehaviour{Rotate: true})
				redis := redistest.Start(t)
				wires := []*redistest.Wire{redis.Wire(t), redis.Wire(t)}
				behind, informed := s.start(wires[0].URL()), s.start(wires[1].URL())
				wires[0].Cut()
				s.hub.SetToken(hubspottest.TokenBehaviour{Rotate: true})
				tt.change(s, redis)
				s.waitForStatus(tt.status, first, informed)
				if tt.status == http.StatusOK {
					s.hub.Expire(first)
					s.waitForStatus(http.StatusOK, first, informed) // with a refresh token that only this process has
				}
				wires[1].Cut()
				redis.Restart()
				if order == "the other process writes first" {
					wires[0], wires[1] = wires[1], wires[0]
				}
				wires[0].Mend()
				stored := redis.Client(t)
				testkit.Within(t, 10*time.Second, "the first process has written", func() bool {
					return stored.HGet(t.Context(), "hubspot:portal:{"+first+"}", "schema").Val() != ""
				})
				wires[1].Mend()
				s.redis = redis.URL()
				fresh := launch(t, append(s.settings, "REDIS_URL="+redis.URL()))
				s.waitForStatus(tt.status, first, behind, informed, fresh)
				s.hub.Expire(first) // the token is renewed, or the portal fails
				s.wantStatusFor(tt.status, first, 3*time.Second, behind, informed, fresh)
				if tt.status == http.StatusOK {
					s.wantNothingLost()
				}
			})
		}
	}
}

func TestAllPortalsAreWrittenBackOnceRedisAcceptsWrites(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	redis := s.startTwo()
	const many = 20
	for i := range many {
		portal := fmt.Sprint(63000 + i)
		s.set(redis, portal)
		s.waitForStatus(http.StatusOK, portal, s.replicas...)
	}
	redis.RestartWith("--min-replicas-to-write", "1")
	for end := time.Now().Add(12 * time.Second); time.Now().Before(end); <-time.After(500 * time.Millisecond) {
		for i := range many {
			for _, r := range s.replicas {
				if got := s.write(r, fmt.Sprint(63000+i)); !got.served() {
					t.Fatalf("%s while Redis accepts no writes: %s", got.kind(), got.body)
				}
			}
		}
	}
	configure(redis, "0")
	began, stored := time.Now(), redis.Client(t)
	testkit.Within(t, 10*time.Second, "all portals are stored again", func() bool {
		return len(stored.Keys(t.Context(), "hubspot:portal:*").Val()) == many+len(portals)
	})
	wantWithin(t, began, 10*time.Second)
	for _, r := range s.replicas {
		if strings.Contains(r.Printed.String(), "cannot be used") {
			t.Error("the log blames the records")
		}
	}
}

func TestAPortalIsNotRefusedWhenRedisIsFlushed(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	redis := s.startTwo()
	s.set(redis, later)
	s.waitForStatus(http.StatusOK, later, s.replicas[0]) // the other replica does not know the portal
	redis.Do("flushall")
	for began := time.Now(); ; <-time.After(20 * time.Millisecond) {
		got := s.write(s.replicas[1], later)
		if got.served() {
			break
		}
		if got.status != http.StatusServiceUnavailable || got.header.Get("Retry-After") == "" || time.Since(began) > 10*time.Second {
			t.Fatalf("%s after %v: %s", got.kind(), time.Since(began), got.body)
		}
	}
	s.wantNothingLost()
}

// The stall is shorter than the lease of the portal's lock.
func TestAStallOfRedisDuringATokenCallCausesNoSecondTokenCall(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	redis := s.startTwo()
	before := s.hub.TokenCalls(first)
	s.hub.SetToken(hubspottest.TokenBehaviour{Rotate: true, Latency: 4 * time.Second})
	s.hub.Expire(first)
	answers := make(chan result, 2)
	for _, r := range s.replicas {
		go func() { answers <- s.write(r, first) }()
	}
	testkit.Within(t, 10*time.Second, "the token endpoint is called", func() bool { return s.hub.TokenCalls(first) > before })
	<-time.After(800 * time.Millisecond) // just before the lock is extended
	redis.Pause()
	<-time.After(2600 * time.Millisecond)
	redis.Resume()
	for range s.replicas {
		if got := <-answers; !got.served() {
			t.Errorf("%s %s", got.kind(), got.body)
		}
	}
	if calls := s.hub.TokenCalls(first) - before; calls != 1 {
		t.Errorf("%d token calls", calls)
	}
	s.wantNothingLost()
}
