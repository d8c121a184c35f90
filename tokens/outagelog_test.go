package tokens_test

import (
	"testing"

	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/redistest"
	"hubspot-auth-proxy/tokens/testkit"
)

// The start of the program reports that Redis does not answer. After that the source reports it.
func TestAnOutageOfRedisIsLoggedHoweverSoonAfterTheStart(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Persist())
	const stops, again = "Redis does not answer", "Redis answers again"
	s, log := watched(t, newHub(t), tokens.Options{Redis: dial(t, server)})
	put(t, s, portalID, tokens.AccessToken, hubspottest.Canary)
	server.Kill()
	if err := s.Survey(t.Context()); err == nil {
		t.Error("Redis answers")
	}
	other, quiet := watched(t, newHub(t), tokens.Options{Redis: dial(t, server)})
	if err := other.Survey(t.Context()); err == nil {
		t.Error("Redis answers")
	}
	if n, m := log.lines(stops), quiet.lines(stops); n != 1 || m != 0 {
		t.Errorf("%d lines, want 1; %d lines of a source that was started later, want 0", n, m)
	}
	server.Restart()
	testkit.Eventually(t, "the end of the outage is logged", func() bool { return other.RedisAnswers() && log.lines(again) > 0 })
	if n, m := log.lines(again), quiet.lines(again); n != 1 || m != 0 {
		t.Errorf("the end of the outage: %d lines, want 1; %d lines of the other source, want 0", n, m)
	}
}
