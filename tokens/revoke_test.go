package tokens_test

import (
	"errors"
	"testing"

	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/secret"
)

func TestAGrantIsRevokedBeforeThePortalIsRemoved(t *testing.T) {
	onEachRedis(t, func(t *testing.T, connect connector) {
		hub, client := newHub(t), connect(t)
		s := newSource(t, hub, tokens.Options{Redis: client})
		refresh := seed(t, s, hub, portalID)
		get(t, s, portalID)
		wrong := newSource(t, hub, tokens.Options{Redis: connect(t), App: otherApp(t, hub)})
		if _, is := errors.AsType[*tokens.AppMismatchError](wrong.Revoke(t.Context(), portalID, "test")); !is {
			t.Error("another app revokes the grant")
		}
		if state := field(t, client, "state"); state != "active" {
			t.Errorf("the record is %s, and nothing was revoked", state)
		}
		if err := s.Revoke(t.Context(), portalID, "test"); err != nil {
			t.Fatal(err)
		}
		if state := field(t, client, "state"); state != "removed" || !answers(t, s, portalID, tokens.ErrNotConnected) {
			t.Errorf("the record is %s", state)
		}
		if _, err := newApp(t, hub, nil).Refresh(t.Context(), secret.New(refresh)); err == nil {
			t.Error("the refresh token still gives tokens")
		}
		if err := s.Revoke(t.Context(), portalID, "test"); !errors.Is(err, tokens.ErrNotConnected) {
			t.Errorf("of a removed portal: %v", err)
		}
		put(t, s, "1", tokens.AccessToken, hubspottest.Canary)
		if err := s.Revoke(t.Context(), "1", "test"); !errors.Is(err, tokens.ErrNotRevocable) {
			t.Errorf("of a static credential: %v", err)
		}
		get(t, s, "1")
	})
}
