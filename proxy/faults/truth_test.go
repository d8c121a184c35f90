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

// later is a portal that is connected when the processes already run.
const later = "62600"

// set gives a portal a static token, as the command portal set does.
func (s *stage) set(redis *redistest.Server, portal string) {
	s.t.Helper()
	token := fmt.Sprintf("pat-na1-%s-%s", hubspottest.Canary, portal)
	s.hub.SetAccessToken(portal, token)
	s.command(redis, token, "portal", "set", portal, "access_token")
}

// ask sends a write for the portal that no other has sent.
func (s *stage) ask(r *replica, portal string) result {
	return r.call("POST", of(portal, fmt.Sprint("asked-", s.asked.Add(1))))
}

// becomes waits until each replica answers for the portal with the status.
func (s *stage) becomes(status int, portal string, replicas ...*replica) {
	s.t.Helper()
	for _, r := range replicas {
		var got result
		testkit.Within(s.t, 10*time.Second, fmt.Sprintf("portal %s is answered %d at %s", portal, status, r.Address), func() bool {
			got = s.ask(r, portal)
			return got.status == status
		})
	}
}

// stays wants each replica to answer for the portal with the status only.
func (s *stage) stays(status int, portal string, lasts time.Duration, replicas ...*replica) {
	s.t.Helper()
	for end := time.Now().Add(lasts); time.Now().Before(end); <-time.After(100 * time.Millisecond) {
		for _, r := range replicas {
			if got := s.ask(r, portal); got.status != status {
				s.t.Fatalf("portal %s is answered %s at %s, not %d: %s", portal, got.kind(), r.Address, status, got.body)
			}
		}
	}
}

// rollBack kills Redis, and starts it with the data of its last snapshot.
func rollBack(redis *redistest.Server) {
	redis.Kill()
	redis.Restart()
}

func TestWhatIsConnectedAfterRedisSnapshotIsServedOn(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	redis := s.startTwo()
	redis.Do("save")
	s.set(redis, later)
	s.connect(redis)
	for _, portal := range []string{later, first} {
		s.becomes(http.StatusOK, portal, s.replicas...)
	}
	rollBack(redis)
	for _, portal := range []string{later, first} {
		s.stays(http.StatusOK, portal, 6*time.Second, s.replicas...)
	}
	s.becomes(http.StatusOK, later, launch(t, append(s.settings, "REDIS_URL="+redis.URL())))
	s.wantNothingLost()
}

func TestATombstoneIsNewerThanRedisSnapshot(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	redis := s.startTwo()
	s.set(redis, later)
	s.becomes(http.StatusOK, later, s.replicas...)
	redis.Do("save")
	s.command(redis, "", "portal", "remove", later)
	s.becomes(http.StatusForbidden, later, s.replicas...)
	rollBack(redis)
	fresh := launch(t, append(s.settings, "REDIS_URL="+redis.URL())) // which nobody else calls for it
	s.becomes(http.StatusForbidden, later, fresh)
	s.stays(http.StatusForbidden, later, 3*time.Second, append(s.replicas, fresh)...)
}

// One process misses what happened to a portal while it was cut off. Redis
// comes back empty, and that process writes back first what it holds.
func TestWhatAProcessMissedIsNotUndoneByIt(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*stage, *redistest.Server)
		status int
	}{
		"the portal was connected again": {func(s *stage, redis *redistest.Server) { s.connect(redis) }, http.StatusOK},
		"the portal was removed":         {func(s *stage, redis *redistest.Server) { s.command(redis, "", "portal", "remove", first) }, http.StatusForbidden},
	} {
		for _, order := range []string{"the one that missed it writes first", "the other one writes first"} {
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
				s.becomes(tt.status, first, informed)
				if tt.status == http.StatusOK {
					s.hub.Expire(first)
					s.becomes(http.StatusOK, first, informed) // with a refresh token that only it has
				}
				wires[1].Cut()
				redis.Restart()
				if order == "the other one writes first" {
					wires[0], wires[1] = wires[1], wires[0]
				}
				wires[0].Mend()
				stored := redis.Client(t)
				testkit.Within(t, 10*time.Second, "it has written", func() bool {
					return stored.HGet(t.Context(), "hubspot:portal:{"+first+"}", "schema").Val() != ""
				})
				wires[1].Mend()
				s.redis = redis.URL()
				fresh := launch(t, append(s.settings, "REDIS_URL="+redis.URL()))
				s.becomes(tt.status, first, behind, informed, fresh)
				s.hub.Expire(first) // whatever serves now is renewed, or ends
				s.stays(tt.status, first, 3*time.Second, behind, informed, fresh)
				if tt.status == http.StatusOK {
					s.wantNothingLost()
				}
			})
		}
	}
}

func TestAllIsWrittenBackOnceRedisTakesWrites(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	redis := s.startTwo()
	const many = 20
	for i := range many {
		portal := fmt.Sprint(63000 + i)
		s.set(redis, portal)
		s.becomes(http.StatusOK, portal, s.replicas...)
	}
	redis.RestartWith("--min-replicas-to-write", "1")
	for end := time.Now().Add(12 * time.Second); time.Now().Before(end); <-time.After(500 * time.Millisecond) {
		for i := range many {
			for _, r := range s.replicas {
				if got := s.ask(r, fmt.Sprint(63000+i)); !got.served() {
					t.Fatalf("%s while Redis takes no writes: %s", got.kind(), got.body)
				}
			}
		}
	}
	configure(redis, "0")
	began, stored := time.Now(), redis.Client(t)
	testkit.Within(t, 10*time.Second, "all is stored again", func() bool {
		return len(stored.Keys(t.Context(), "hubspot:portal:*").Val()) == many+len(portals)
	})
	wantWithin(t, began, 10*time.Second)
	for _, r := range s.replicas {
		if strings.Contains(r.Printed.String(), "cannot be used") {
			t.Error("the log blames the records")
		}
	}
}

func TestAFlushedRedisIsNoReasonToRefuseAPortal(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	redis := s.startTwo()
	s.set(redis, later)
	s.becomes(http.StatusOK, later, s.replicas[0]) // the other one does not know it
	redis.Do("flushall")
	for began := time.Now(); ; <-time.After(20 * time.Millisecond) {
		got := s.ask(s.replicas[1], later)
		if got.served() {
			break
		}
		if got.status != http.StatusServiceUnavailable || got.header.Get("Retry-After") == "" || time.Since(began) > 10*time.Second {
			t.Fatalf("%s after %v: %s", got.kind(), time.Since(began), got.body)
		}
	}
	s.wantNothingLost()
}

// A stall of Redis that is shorter than its time limit costs no second call.
func TestARedisThatStallsInATokenCallCostsNoSecondOne(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	redis := s.startTwo()
	before := s.hub.TokenCalls(first)
	s.hub.SetToken(hubspottest.TokenBehaviour{Rotate: true, Latency: 4 * time.Second})
	s.hub.Expire(first)
	answers := make(chan result, 2)
	for _, r := range s.replicas {
		go func() { answers <- s.ask(r, first) }()
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
