package tokens_test

import (
	"errors"
	"testing"

	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/redistest"
	"hubspot-auth-proxy/tokens/secret"
	"hubspot-auth-proxy/tokens/testkit"
)

// A record that was read from Redis counts, even if Redis stops answering before Joined is called.
func TestARecordInRedisWinsOverAProvisionalCredential(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	other := newSource(t, newHub(t), tokens.Options{Redis: dial(t, server)})
	put(t, other, "1", tokens.AccessToken, "removed")
	if err := other.Remove(t.Context(), "1", "test"); err != nil {
		t.Fatal(err)
	}
	put(t, other, "2", tokens.AccessToken, "newer")
	s := newSource(t, newHub(t), tokens.Options{Redis: dial(t, server)})
	var seeds []tokens.Seed
	for _, id := range []string{"1", "2", "3"} {
		seeds = append(seeds, tokens.Seed{Portal: id, Kind: tokens.AccessToken, Secret: secret.New("provisional")})
	}
	s.Provide(seeds)
	has := func(portal, want string) {
		t.Helper()
		c, err := s.Credential(t.Context(), portal)
		switch {
		case want == "" && !errors.Is(err, tokens.ErrNotConnected):
			t.Errorf("portal %s: %v, want none", portal, err)
		case want != "" && (err != nil || c.Secret.Reveal() != want):
			t.Errorf("portal %s is not served with the %s credential: %v", portal, want, err)
		}
	}
	testkit.Eventually(t, "Redis has answered", func() bool { return s.Epoch() != "" })
	for range 2 {
		has("1", "")
		has("2", "newer")
		has("3", "provisional")
		server.Kill()
		testkit.Eventually(t, "Redis does not answer", func() bool { return !s.RedisAnswers() })
	}
}
