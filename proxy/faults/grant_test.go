package faults

import (
	"slices"
	"strings"
	"testing"
	"time"

	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/testkit"
)

func grantFaults(*testing.T) []fault {
	return []fault{
		{"all processes are started with another app's client id and secret", tryOtherApp},
		{"…, and the portals' records do not name their app yet", tryOtherAppAtFirst},
		{"the token endpoint refuses a valid grant once", tryRefusedOnce},
		{"HubSpot rejects a portal's static token", tryRejectedToken},
	}
}

// otherApp has the settings of an app that has no portal's grant.
var otherApp = []string{"HUBSPOT_CLIENT_ID=" + hubspottest.OtherClientID, "HUBSPOT_CLIENT_SECRET=" + hubspottest.OtherClientSecret}

// restart kills all replicas and starts the same number, with the given settings in
// addition to the stage's.
func (s *stage) restart(settings ...string) {
	s.t.Helper()
	n := len(s.replicas)
	for _, r := range s.replicas {
		r.Kill()
	}
	s.replicas = nil
	for range n {
		s.replicas = append(s.replicas, launch(s.t, slices.Concat(s.settings, []string{"REDIS_URL=" + s.redis}, settings)))
	}
}

func tryOtherApp(t *testing.T) outcome {
	s := newStage(t)
	s.hub.SetToken(hubspottest.TokenBehaviour{Life: short})
	s.startTwo()
	s.restart(otherApp...)
	l := s.load()
	began := time.Now()
	mismatch := func(r result) bool { return r.kind() == "503 `APP_MISMATCH`" && r.header.Get("Retry-After") != "" }
	testkit.Within(t, 30*time.Second, "all portals are answered APP_MISMATCH", func() bool { return s.seenEverywhere(l, began, mismatch, granted...) })
	calls := s.calls()
	results := l.stop()
	wantKinds(t, results, "200", "503 `APP_MISMATCH`", atExpiry)
	s.wantUnseen(results)
	if n := s.calls() - calls; n != 0 {
		t.Errorf("%d token calls", n)
	}
	for _, r := range s.replicas {
		wantPrinted(t, r, hubspottest.ClientID, hubspottest.OtherClientID)
	}
	s.hub.SetToken(hubspottest.TokenBehaviour{})
	o := outcome{
		client: "200 as long as the token lives, then 503 `APP_MISMATCH` with Retry-After", hubspot: "no token call",
		recovery: s.wantRecoveryWithTheRightApp(),
	}
	s.wantNothingLost()
	return o
}

func tryOtherAppAtFirst(t *testing.T) outcome {
	s := newStage(t)
	s.hub.SetToken(hubspottest.TokenBehaviour{Life: short})
	redis := s.startTwo()
	for _, r := range s.replicas {
		r.Kill()
	}
	for _, portal := range granted { // as an earlier version stored them
		redis.Do("HDEL", "hubspot:portal:{"+portal+"}", "app")
	}
	s.restart(otherApp...)
	calls := s.calls()
	l := s.load()
	began := time.Now()
	refused := func(r result) bool { return r.kind() == "403 `PORTAL_REAUTHORIZATION_REQUIRED`" }
	testkit.Within(t, 30*time.Second, "the grants are refused", func() bool { return s.seenEverywhere(l, began, refused, granted...) })
	results := l.stop()
	wantKinds(t, results, "200", "403 `PORTAL_REAUTHORIZATION_REQUIRED`", atExpiry)
	s.wantUnseen(results)
	if n := s.calls() - calls; n != len(granted) {
		t.Errorf("%d token calls with the wrong app", n)
	}
	s.hub.SetToken(hubspottest.TokenBehaviour{})
	o := outcome{
		client:   "200 as long as the token lives, then 403 `PORTAL_REAUTHORIZATION_REQUIRED`",
		hubspot:  "one token call per portal, and one more with the right client id and secret",
		recovery: s.wantRecoveryWithTheRightApp(),
	}
	if n := s.calls() - calls; n != 2*len(granted) {
		t.Errorf("%d token calls", n)
	}
	s.wantNothingLost()
	return o
}

func tryRefusedOnce(t *testing.T) outcome {
	s := newStage(t)
	s.hub.SetToken(hubspottest.TokenBehaviour{Life: short})
	redis := s.startTwo()
	l := s.load()
	s.renewed(1)
	s.hub.SetToken(hubspottest.TokenBehaviour{Code: "BAD_REFRESH_TOKEN"})
	began, before := time.Now(), s.calls()
	refused := func(r result) bool { return r.kind() == "403 `PORTAL_REAUTHORIZATION_REQUIRED`" }
	testkit.Within(t, 30*time.Second, "the grants are refused", func() bool { return s.seenEverywhere(l, began, refused, granted...) })
	calls := s.calls() - before
	s.hub.SetToken(hubspottest.TokenBehaviour{})
	s.command(redis, "", "portal", "check", "--all")
	o := outcome{recovery: s.wantRecovery(l, 10*time.Second) + " after `portal check`; otherwise with the first call a minute after the refusal"}
	results := l.stop()
	wantKinds(t, results, "200", "403 `PORTAL_REAUTHORIZATION_REQUIRED`", atExpiry)
	s.wantUnseen(results)
	if again := s.calls() - before; calls != len(granted) || again != 2*len(granted) {
		t.Errorf("%d token calls, and %d with the second try", calls, again)
	}
	s.wantNothingLost()
	o.client = "200 as long as the token lives, then 403 `PORTAL_REAUTHORIZATION_REQUIRED`, which says when the grant is tried again"
	o.hubspot = "from all processes together, one token call per portal, and one more when the grant is tried again"
	return o
}

// The processes keep using a rejected token, and report it until HubSpot accepts it.
func tryRejectedToken(t *testing.T) outcome {
	s := newStage(t)
	redis := s.startTwo()
	reported := func(n float64) func() bool {
		return func() bool {
			return !slices.ContainsFunc(s.replicas, func(r *replica) bool {
				return r.metric("hubspot_auth_proxy_portals", `state="rejected"`) != n
			})
		}
	}
	l := s.load()
	s.hub.RejectAll(static, true)
	began := time.Now()
	rejected := func(r result) bool { return r.status == 401 }
	testkit.Within(t, 20*time.Second, "all clients get HubSpot's 401", func() bool { return s.seenEverywhere(l, began, rejected, static) })
	testkit.Within(t, 20*time.Second, "the metric counts the rejected portal", reported(1))
	if listed := s.command(redis, "", "portal", "list", "--json"); !strings.Contains(listed, `"state": "rejected"`) {
		t.Errorf("portal list: %s", listed)
	}
	s.hub.RejectAll(static, false)
	o := outcome{
		client: "HubSpot's 401; `portal list`, the status page and an alert say since when, and what to do", hubspot: "each request once",
		recovery: s.wantRecovery(l, 10*time.Second),
	}
	testkit.Within(t, 20*time.Second, "the metric counts no rejected portal", reported(0))
	results := l.stop()
	wantKinds(t, results, "200", "401")
	for _, r := range results {
		if n := s.seen.times(r.method, r.sent()); r.status == 401 && n != 1 {
			t.Errorf("%s %s was answered 401, and HubSpot received it %d times", r.method, r.target, n)
		}
	}
	s.wantNothingLost()
	return o
}

// wantRecoveryWithTheRightApp restarts all replicas with the app that has the grants,
// and checks that all portals are served within 10 s.
func (s *stage) wantRecoveryWithTheRightApp() string {
	s.t.Helper()
	s.restart()
	began := time.Now()
	for _, r := range s.replicas {
		for _, portal := range portals {
			s.wantServed(r, portal, "with the right app")
		}
	}
	return wantWithin(s.t, began, 10*time.Second) + " with the right client id and secret"
}

// wantPrinted checks that the replica's log contains each text.
func wantPrinted(t *testing.T, r *replica, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(r.Printed.String(), text) {
			t.Errorf("the log does not have %s:\n%s", text, &r.Printed)
		}
	}
}
