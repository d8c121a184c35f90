package tokens_test

import (
	"strings"
	"testing"
	"time"

	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/redistest"
	"hubspot-auth-proxy/tokens/secret"
	"hubspot-auth-proxy/tokens/store"
)

func TestNoErrorContainsTextThatRedisQuotes(t *testing.T) {
	t.Parallel()
	for _, text := range redistest.Echoes() {
		for _, greet := range []bool{true, false} {
			t.Run(text, func(t *testing.T) {
				t.Parallel()
				addr := redistest.Fake(t, redistest.Echo(text, greet))
				client, err := store.Open(secret.New("redis://default:" + hubspottest.Canary + "-password@" + addr + fast))
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = client.Close() })
				s := newSource(t, newHub(t), tokens.Options{Redis: client}) // searches the log, too
				seed := tokens.Seed{Portal: portalID, Kind: tokens.APIKey, Secret: secret.New(hubspottest.Canary)}
				_, shown := s.Show(t.Context(), portalID)
				_, listed := s.Portals(t.Context())
				_, burnt := s.Burn(t.Context(), hubspottest.Canary, time.Now(), time.Minute)
				_, asked := s.Credential(t.Context(), portalID)
				_, seeded := s.Seed(t.Context(), seed)
				for what, err := range map[string]error{
					"Show": shown, "Portals": listed, "Burn": burnt, "Credential": asked, "Seed": seeded,
					"Set": s.Set(t.Context(), seed, "test"), "Remove": s.Remove(t.Context(), portalID, "test"),
				} {
					if shown := text[:2] == "WR" && what == "Show"; !shown && (err == nil || strings.Contains(err.Error(), "canary")) {
						t.Errorf("%s: %v", what, err)
					}
				}
				if err := store.Check(t.Context(), client); !greet && (err == nil || strings.Contains(err.Error(), "canary")) {
					t.Errorf("CheckRedis: %v", err)
				}
			})
		}
	}
}
