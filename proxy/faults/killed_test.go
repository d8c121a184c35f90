package faults

import (
	"slices"
	"strings"
	"testing"
	"time"

	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/redistest"
)

func killedFaults(*testing.T) []fault {
	lock := func(command []string) bool { return mentions(command, "hubspot:lock:{"+first+"}") }
	store := func(command []string) bool {
		return strings.HasPrefix(strings.ToLower(command[0]), "eval") && mentions(command, "hubspot:portal:{"+first+"}")
	}
	return []fault{
		{"the process that renews is killed before it has the lock", killed{at: func(r *renewal) <-chan struct{} {
			return r.wire.HoldCommands(lock).Reached
		}, calls: 1}.try},
		{"… while it has the lock, before it calls HubSpot", killed{at: func(r *renewal) <-chan struct{} {
			return r.wire.HoldAnswers(lock).Reached
		}, calls: 1}.try},
		{"… while it has the lock, while it calls HubSpot", killed{at: askingHubSpot, calls: 2}.try},
		{"… after HubSpot's answer, before that is stored", killed{at: func(r *renewal) <-chan struct{} {
			return r.wire.HoldCommands(store).Reached
		}, calls: 2}.try},
		{"… after HubSpot's answer, before that is stored; HubSpot rotates", killed{at: func(r *renewal) <-chan struct{} {
			return r.wire.HoldCommands(store).Reached
		}, calls: 2, rotate: true, ends: true}.try},
		{"… after HubSpot's answer is stored; HubSpot rotates", killed{at: func(r *renewal) <-chan struct{} {
			return r.wire.HoldAnswers(store).Reached
		}, calls: 1, rotate: true}.try},
	}
}

// mentions reports whether one of the command's words is the key.
func mentions(command []string, key string) bool {
	return slices.Contains(command, key)
}

// renewal is a renewal that a test stops at one of its steps.
type renewal struct {
	*stage
	wire *redistest.Wire
}

// askingHubSpot stops a renewal in its token call, which HubSpot does not answer.
func askingHubSpot(r *renewal) <-chan struct{} {
	r.hub.SetToken(hubspottest.TokenBehaviour{Hang: true})
	asked, before := make(chan struct{}), r.hub.TokenCalls(first)
	go func() {
		defer close(asked)
		_ = r.hub.Until(r.t.Context(), func() bool { return r.hub.TokenCalls(first) > before })
	}()
	return asked
}

// killed is a fault in which a process is killed at a step of a renewal.
type killed struct {
	at     func(*renewal) (reached <-chan struct{})
	calls  int  // token calls, including that of the process that takes over
	rotate bool // HubSpot rotates refresh tokens
	ends   bool // the portal has to be connected again
}

func (k killed) try(t *testing.T) outcome {
	s := newStage(t)
	behaviour := hubspottest.TokenBehaviour{Rotate: k.rotate}
	s.hub.SetToken(behaviour)
	redis := redistest.Start(t)
	wire := redis.Wire(t)
	victim := s.start(wire.URL())
	survivor := s.start(redis.URL())
	before := s.hub.TokenCalls(first)
	s.hub.Expire(first)
	reached := k.at(&renewal{s, wire})
	answered := make(chan result, 1)
	go func() { answered <- victim.call("POST", objectOf(first, "of-the-killed")) }()
	select {
	case <-reached:
	case <-time.After(20 * time.Second):
		t.Fatal("the renewal does not reach the step")
	}
	began := time.Now()
	victim.Kill()
	s.hub.SetToken(behaviour)
	o := outcome{client: wantKinds(t, []result{<-answered}, "a broken transfer") + " from the killed process; "}
	if n := s.seen.times("POST", "/crm/v3/objects/contacts/of-the-killed"); n != 1 {
		t.Errorf("HubSpot has received the request of the killed process %d times", n)
	}
	got := survivor.call("POST", objectOf(first, "of-the-survivor"))
	if k.ends {
		// The first renewal fails, and the request gets HubSpot's 401. After that, the
		// grant counts as ended.
		o.client += "HubSpot's " + wantKinds(t, []result{got}, "401") + " from the others once, then "
		got = survivor.call("POST", objectOf(first, "of-the-survivor-then"))
		o.client += wantKinds(t, []result{got}, "403 `PORTAL_REAUTHORIZATION_REQUIRED`") + ", because no living process has the new refresh token"
		s.connect(redis)
		o.recovery = "when the portal is connected again"
	} else {
		o.client += wantKinds(t, []result{got}, "200") + " from the others"
		o.recovery = wantWithin(t, began, 10*time.Second)
	}
	calls := s.hub.TokenCalls(first) - before
	if calls != k.calls {
		t.Errorf("%d token calls, want %d", calls, k.calls)
	}
	o.hubspot = map[int]string{1: "one token call", 2: "two token calls"}[calls]
	s.wantNothingLost()
	return o
}
