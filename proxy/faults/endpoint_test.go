package faults

import (
	"testing"
	"time"

	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/redistest"
	"hubspot-auth-proxy/tokens/testkit"
)

func endpointFaults(*testing.T) []fault {
	answers := func(b hubspottest.TokenBehaviour) func(*endpointProxy) {
		return func(p *endpointProxy) { p.hub.SetToken(b) }
	}
	return []fault{
		{"the token endpoint answers 500", endpointFault{breaks: answers(hubspottest.TokenBehaviour{Status: 500})}.try},
		{"… 429 with `Retry-After: 3`", endpointFault{breaks: answers(hubspottest.TokenBehaviour{Status: 429, RetryAfter: "3"}), pause: 3 * time.Second}.try},
		{"… something that is not a token", endpointFault{breaks: answers(hubspottest.TokenBehaviour{Status: 200, Body: "<html>"})}.try},
		{"… and breaks off in the middle", endpointFault{breaks: func(p *endpointProxy) { p.cut.Store(true) }}.try},
		{"… never", endpointFault{breaks: answers(hubspottest.TokenBehaviour{Hang: true}), hangs: true}.try},
		{"the token endpoint resets connections", endpointFault{breaks: answers(hubspottest.TokenBehaviour{Reset: true})}.try},
		{"the token endpoint refuses connections", endpointFault{breaks: (*endpointProxy).close}.try},
		{"the token endpoint answers 500, and HubSpot no longer accepts the access token", tryRejected},
		{"the token endpoint answers `invalid_grant`, because another process has renewed meanwhile; HubSpot rotates", tryOvertaken},
	}
}

// endpointFault is a fault of the token endpoint that lasts until all access tokens
// have expired.
type endpointFault struct {
	breaks func(*endpointProxy)
	pause  time.Duration // the Retry-After of HubSpot's answer; 0 means none
	hangs  bool          // HubSpot never answers
}

func (f endpointFault) try(t *testing.T) outcome {
	s := newStage(t)
	p := newEndpointProxy(t, s.hub)
	s.settings = append(s.settings, p.setting())
	s.hub.SetToken(hubspottest.TokenBehaviour{Life: short})
	s.startTwo()
	l := s.load()
	s.renewed(1)
	f.breaks(p)
	began, before := time.Now(), s.calls()
	refused := func(r result) bool { return r.status == 503 }
	testkit.Within(t, time.Minute, "all access tokens have expired", func() bool { return s.seenEverywhere(l, began, refused, granted...) })
	f.wantFewCalls(s, s.calls()-before, time.Since(began))
	s.hub.SetToken(hubspottest.TokenBehaviour{})
	if p.cut.Swap(false); !reachable(p) {
		p.open()
	}
	o := outcome{recovery: s.wantRecovery(l, 10*time.Second)}
	results := l.stop()
	s.wantUnseen(results)
	wantKinds(t, results, "200", "503 `CREDENTIAL_UNAVAILABLE`", atExpiry)
	for _, r := range results {
		if r.status == 503 && r.header.Get("Retry-After") == "" {
			t.Errorf("a 503 has no Retry-After: %v", r.header)
		}
	}
	o.client = "200 as long as the token lives, then 503 `CREDENTIAL_UNAVAILABLE` with Retry-After"
	if f.hangs {
		o.client += ", after 10 s"
	}
	switch {
	case f.hangs:
		o.hubspot = "few token calls, each of which times out after 15 s"
	case f.pause > 0:
		o.hubspot = "after a 429, no token call from that process for 3 s"
	default:
		o.hubspot = "token calls with increasing delays"
	}
	s.wantNothingLost()
	return o
}

// reachable reports whether the endpointProxy accepts connections.
func reachable(p *endpointProxy) bool {
	response, err := plain.Get("http://" + p.addr)
	if err == nil {
		_ = response.Body.Close()
	}
	return err == nil
}

// wantFewCalls checks that the processes made no more token calls than their pauses
// between calls allow.
func (f endpointFault) wantFewCalls(s *stage, calls int, lasted time.Duration) {
	s.t.Helper()
	most := 0
	for wait, at := time.Second/4, time.Duration(0); at < lasted; wait *= 2 {
		at += wait
		most++
	}
	switch {
	case f.hangs:
		most = 1 + int(lasted/(15*time.Second))
	case f.pause > 0:
		most = 1 + int(lasted/f.pause)
	}
	// Each process calls for each portal on its own.
	if most *= len(s.replicas) * len(granted); calls > most {
		s.t.Errorf("%d token calls in %v, more than %d", calls, lasted, most)
	}
}

func tryRejected(t *testing.T) outcome {
	s := newStage(t)
	s.startTwo()
	s.hub.SetToken(hubspottest.TokenBehaviour{Status: 500})
	for _, portal := range granted {
		s.hub.Expire(portal)
	}
	l := s.load()
	began := time.Now()
	rejected := func(r result) bool { return r.status == 401 }
	testkit.Within(t, 20*time.Second, "all clients get HubSpot's 401", func() bool { return s.seenEverywhere(l, began, rejected, granted...) })
	s.hub.SetToken(hubspottest.TokenBehaviour{})
	o := outcome{hubspot: "each request once, and token calls with increasing delays", recovery: s.wantRecovery(l, 10*time.Second)}
	results := l.stop()
	wantKinds(t, results, "200", "401")
	o.client = "HubSpot's 401"
	for _, r := range results {
		if n := s.seen.times(r.method, r.sent()); r.status == 401 && n != 1 {
			t.Errorf("%s %s was answered 401, and HubSpot received it %d times", r.method, r.target, n)
		}
	}
	s.wantNothingLost()
	return o
}

// The slow process loses the portal's lock during its token call. The quick process
// renews meanwhile, which makes the slow process's refresh token invalid.
func tryOvertaken(t *testing.T) outcome {
	s := newStage(t)
	s.hub.SetToken(hubspottest.TokenBehaviour{Rotate: true})
	redis := redistest.Start(t)
	wire, p := redis.Wire(t), newEndpointProxy(t, s.hub)
	slow := s.start(wire.URL(), p.setting())
	quick := s.start(redis.URL())
	wire.HoldCommands(func(command []string) bool { // those that extend the lock
		return mentions(command, "hubspot:lock:{"+first+"}") && len(command) == 6
	})
	held := &heldCall{make(chan struct{}), make(chan struct{})}
	p.hold.Store(held)
	before := s.hub.TokenCalls(first)
	s.hub.Expire(first)
	answered := make(chan result, 1)
	go func() { answered <- slow.call("POST", objectOf(first, "slow")) }()
	<-held.reached
	began := time.Now()
	results := []result{quick.call("POST", objectOf(first, "quick"))}
	p.hold.Store(nil)
	close(held.released)
	results = append(results, <-answered)
	o := outcome{client: wantKinds(t, results, "200"), recovery: wantWithin(t, began, 10*time.Second)}
	wantAnswersWithin(t, results, 10*time.Second)
	if calls := s.hub.TokenCalls(first) - before; calls != 2 {
		t.Errorf("%d token calls", calls)
	}
	o.hubspot = "two token calls"
	s.wantNothingLost()
	return o
}
