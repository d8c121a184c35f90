package faults

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/redistest"
	"hubspot-auth-proxy/tokens/testkit"
)

func redisFaults(*testing.T) []fault {
	persist := redistest.Persist()
	return []fault{
		{"Redis is killed, and started again with its data", redisFault{
			options: []redistest.Option{persist}, breaks: (*redistest.Server).Kill, mends: (*redistest.Server).Restart,
		}.try},
		{"Redis is killed, and started again with its data; HubSpot rotates", redisFault{
			options: []redistest.Option{persist}, breaks: (*redistest.Server).Kill, mends: (*redistest.Server).Restart,
			rotate: true,
		}.try},
		{"Redis is killed, and started again empty", redisFault{
			breaks: (*redistest.Server).Kill, mends: (*redistest.Server).Restart,
		}.try},
		{"Redis is restarted empty, before a process notices; HubSpot rotates", tryRestartedEmpty},
		{"Redis hangs (SIGSTOP)", redisFault{
			breaks: (*redistest.Server).Pause, mends: (*redistest.Server).Resume, waits: true,
		}.try},
		{"Redis is restarted as a read-only replica", redisFault{
			options: []redistest.Option{persist}, breaks: (*redistest.Server).RestartReadOnly, mends: promote,
		}.try},
		{"Redis takes no writes (`min-replicas-to-write`); HubSpot rotates", redisFault{
			breaks: func(s *redistest.Server) { configure(s, "1") }, mends: func(s *redistest.Server) { configure(s, "0") },
			rotate: true,
		}.try},
		{"Redis answers 2 s late; HubSpot rotates", trySlowRedis},
		{"one process is cut off from Redis, and renews; HubSpot rotates", tryCutOff},
		{"Redis is unreachable when a process starts", tryUnreachableAtStart},
		{"the Redis user has no right to the channel", tryNoChannel},
		{"the record of a portal has a newer schema", tryNewerRecord},
		{"Redis' master is killed, and Sentinel makes its replica the master; HubSpot rotates", trySentinel},
	}
}

// redisFault is a fault of Redis that lasts while tokens are renewed.
type redisFault struct {
	options       []redistest.Option
	breaks, mends func(*redistest.Server)
	rotate        bool
	waits         bool // requests may wait
}

// usualWait is the longest time that a request may take on a busy machine.
const usualWait = 5 * time.Second

func (f redisFault) try(t *testing.T) outcome {
	s := newStage(t)
	s.hub.SetToken(hubspottest.TokenBehaviour{Life: short, Rotate: f.rotate})
	redis := s.startTwo(f.options...)
	l := s.load()
	f.breaks(redis)
	began, before := time.Now(), s.calls()
	o := outcome{client: "200"}
	if f.rotate {
		// One process renews, which makes the other's refresh token invalid.
		testkit.Within(t, time.Minute, "one process has no token", func() bool {
			return slices.ContainsFunc(l.soFar(), func(r result) bool { return r.status == 503 })
		})
		s.renewed(2)
	} else {
		s.renewed(4)
	}
	lasted := time.Since(began)
	o.hubspot = s.wantCallsOfEach(s.calls()-before, lasted)
	f.mends(redis)
	o.recovery = s.wantRecovery(l, 10*time.Second)
	results := l.stop()
	s.wantUnseen(results)
	if f.rotate {
		wantOneServes(t, s, results)
		wantKinds(t, results, "200", "503 `CREDENTIAL_UNAVAILABLE`", atExpiry)
		o.client = "200, 503 `CREDENTIAL_UNAVAILABLE` from the process that did not renew, once its token has expired"
	} else {
		wantKinds(t, results, "200")
	}
	if f.waits {
		o.client += ", some after a wait of < " + usualWait.String()
	}
	wantAnswersWithin(t, results, usualWait)
	s.wantNothingLost()
	return o
}

// calls returns the number of token calls for both OAuth portals.
func (s *stage) calls() int { return s.hub.TokenCalls(first) + s.hub.TokenCalls(second) }

// wantCallsOfEach checks that in the time without Redis, each replica made at most one
// token call per portal and expiry. Two more calls are allowed, for an expiry at the
// beginning and at the end of that time.
func (s *stage) wantCallsOfEach(calls int, lasted time.Duration) string {
	s.t.Helper()
	expiries := int(lasted/(short*3/4)) + 2
	if most := len(s.replicas) * len(granted) * expiries; calls > most {
		s.t.Errorf("%d token calls in %v, more than %d", calls, lasted, most)
	}
	return "token calls by each process"
}

// wantOneServes checks that for each portal at least one replica never answered 503.
func wantOneServes(t *testing.T, s *stage, results []result) {
	t.Helper()
	for _, portal := range portals {
		refusing := make(map[string]bool)
		for _, r := range results {
			if strings.HasPrefix(r.target, "/portals/"+portal+"/") && r.status == http.StatusServiceUnavailable {
				refusing[r.replica.Address] = true
			}
		}
		if len(refusing) == len(s.replicas) {
			t.Errorf("portal %s was answered 503 by every process", portal)
		}
	}
}

// promote makes a read-only replica a master again.
func promote(s *redistest.Server) { s.Do("replicaof", "no", "one") }

func configure(s *redistest.Server, replicas string) {
	s.Do("config", "set", "min-replicas-to-write", replicas)
}

// Redis loses its data, and answers again before the processes notice.
func tryRestartedEmpty(t *testing.T) outcome {
	s := newStage(t)
	s.hub.SetToken(hubspottest.TokenBehaviour{Rotate: true})
	redis := s.startTwo()
	l := s.load()
	redis.Restart()
	restarted := time.Now()
	s.wantRecovery(l, 10*time.Second)
	stored := redis.Client(t)
	testkit.Within(t, 10*time.Second, "all portals are stored again", func() bool {
		return !slices.ContainsFunc(portals, func(portal string) bool {
			return stored.Exists(t.Context(), "hubspot:portal:{"+portal+"}").Val() == 0
		})
	})
	o := outcome{recovery: wantWithin(t, restarted, 10*time.Second), hubspot: "no further token call"}
	results := l.stop()
	o.client = wantKinds(t, results, "200")
	wantAnswersWithin(t, results, usualWait)
	if calls := s.calls(); calls != len(granted) {
		t.Errorf("%d token calls, want the %d of the start", calls, len(granted))
	}
	s.wantNothingLost()
	return o
}

// slow is the lifetime of tokens that are renewed ten seconds before they expire.
const slow = 40 * time.Second

func trySlowRedis(t *testing.T) outcome {
	s := newStage(t)
	s.hub.SetToken(hubspottest.TokenBehaviour{Life: slow, Rotate: true})
	redis := redistest.Start(t)
	wires := []*redistest.Wire{redis.Wire(t), redis.Wire(t)}
	for _, wire := range wires {
		s.start(wire.URL())
	}
	l := s.load()
	for _, wire := range wires {
		wire.Delay(2 * time.Second)
	}
	before := s.calls()
	s.renewed(1)
	until := time.Now().Add(slow / 4)
	testkit.Within(t, slow, "all portals are served with the new tokens", func() bool { return s.seenEverywhere(l, until, result.served, portals...) })
	if calls := s.calls() - before; calls != len(granted) {
		t.Errorf("%d token calls for one expiry of %d portals", calls, len(granted))
	}
	for _, wire := range wires {
		wire.Delay(0)
	}
	o := outcome{recovery: s.wantRecovery(l, 10*time.Second), hubspot: "one token call per portal and expiry"}
	results := l.stop()
	o.client = wantKinds(t, results, "200")
	wantAnswersWithin(t, results, usualWait)
	s.wantNothingLost()
	return o
}

// The process that is cut off has the only valid refresh token. For the others, the
// grant has ended until the cut-off process stores that token.
func tryCutOff(t *testing.T) outcome {
	s := newStage(t)
	redis := redistest.Start(t)
	wire := redis.Wire(t)
	cut, healthy := s.start(wire.URL()), s.start(redis.URL())
	s.hub.SetToken(hubspottest.TokenBehaviour{Rotate: true})
	wire.Cut()
	before := s.hub.TokenCalls(first)
	s.hub.Expire(first)
	results := []result{s.write(cut, first)}
	var refused result
	testkit.Within(t, 20*time.Second, "the grant has ended for the other process", func() bool {
		refused = s.write(healthy, first)
		results = append(results, refused)
		return refused.status == http.StatusForbidden
	})
	results = append(results, s.write(cut, first))
	wire.Mend()
	o := outcome{hubspot: "token calls by each process", recovery: s.servedWithin(10*time.Second, first)}
	if calls := s.hub.TokenCalls(first) - before; calls < 2 {
		t.Errorf("%d token calls", calls)
	}
	wantKinds(t, results, "200", "?401", "403 `PORTAL_REAUTHORIZATION_REQUIRED`")
	o.client = "200 from that process; HubSpot's 401, then 403 `PORTAL_REAUTHORIZATION_REQUIRED` from the others until that process reaches Redis again"
	s.redis = redis.URL()
	s.wantNothingLost()
	return o
}

// servedWithin waits until every replica serves the portal, checks that this took no
// longer than the bound, and returns the bound as text.
func (s *stage) servedWithin(bound time.Duration, portal string) string {
	s.t.Helper()
	began := time.Now()
	s.waitForStatus(http.StatusOK, portal, s.replicas...)
	return wantWithin(s.t, began, bound)
}

func trySentinel(t *testing.T) outcome {
	s := newStage(t)
	s.hub.SetToken(hubspottest.TokenBehaviour{Life: short, Rotate: true})
	master := redistest.Start(t)
	host, port, _ := strings.Cut(master.Addr, ":")
	replica := redistest.Start(t, redistest.With("--replicaof", host, port))
	sentinel := redistest.Start(t, redistest.Sentinel("sentinel monitor main "+host+" "+port+" 1",
		"sentinel down-after-milliseconds main 1000", "sentinel failover-timeout main 5000"))
	testkit.Within(t, 20*time.Second, "Sentinel knows the replica", func() bool {
		return strings.Contains(sentinel.Do("info", "sentinel"), "slaves=1") &&
			strings.Contains(replica.Do("info", "replication"), "master_link_status:up")
	})
	for range 2 {
		s.start(sentinel.URL() + "?master_name=main")
	}
	l := s.load()
	s.renewed(1)
	master.Kill()
	killed := time.Now()
	testkit.Within(t, 30*time.Second, "there is a new master", func() bool {
		return strings.Contains(replica.Do("info", "replication"), "role:master")
	})
	s.wantRecovery(l, 20*time.Second)
	o := outcome{recovery: wantWithin(t, killed, 30*time.Second), hubspot: "token calls by each process, while there is no master"}
	s.renewed(2)
	results := l.stop()
	s.wantUnseen(results)
	wantKinds(t, results, "200", "?503 `CREDENTIAL_UNAVAILABLE`", atExpiry)
	wantOneServes(t, s, results)
	o.client = "200; 503 `CREDENTIAL_UNAVAILABLE` from a process whose token expires while there is no master, if another process has renewed meanwhile"
	wantAnswersWithin(t, results, 10*time.Second)
	s.wantNothingLost()
	return o
}
