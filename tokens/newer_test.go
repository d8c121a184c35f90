package tokens_test

import (
	"errors"
	"strings"
	"testing"

	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/redistest"
	"hubspot-auth-proxy/tokens/secret"
	"hubspot-auth-proxy/tokens/store"
)

func TestARecordOfANewerVersionIsReplacedByForceOnly(t *testing.T) {
	onEachRedis(t, func(t *testing.T, connect connector) {
		client := connect(t)
		s := newSource(t, newHub(t), tokens.Options{Redis: client})
		seed := tokens.Seed{Portal: portalID, Kind: tokens.AccessToken, Secret: secret.New("x")}
		if err := s.Set(t.Context(), seed, "test"); err != nil {
			t.Fatal(err)
		}
		client.HSet(t.Context(), recordKey, "schema", "2")
		p, err := s.Show(t.Context(), portalID)
		if err != nil || !strings.Contains(p.Problem, `schema "2", of a newer version`) || !strings.Contains(p.Remedy(), "run the newer version") {
			t.Errorf("%v: %q, %q", err, p.Problem, p.Remedy())
		}
		before := client.HGetAll(t.Context(), recordKey).Val()
		seed.Secret = secret.New("y")
		_, seeded := s.Seed(t.Context(), seed)
		for what, err := range map[string]error{"set": s.Set(t.Context(), seed, "test"), "remove": s.Remove(t.Context(), portalID, "test"), "seed": seeded} {
			if _, is := errors.AsType[*store.NewerError](err); !is {
				t.Errorf("%s: %v", what, err)
			}
		}
		if after := client.HGetAll(t.Context(), recordKey).Val(); after["access_token"] != before["access_token"] || after["schema"] != "2" {
			t.Errorf("it has become %v", after)
		}
		for what, force := range map[string]func() error{
			"remove": func() error { return s.ForceRemove(t.Context(), portalID, "test") },
			"set":    func() error { return s.Force(t.Context(), seed, "test") },
		} {
			client.HSet(t.Context(), recordKey, "schema", "2")
			if err := force(); err != nil || client.HGet(t.Context(), recordKey, "schema").Val() != "1" {
				t.Errorf("%s by force: %v", what, err)
			}
		}
		if err := s.Force(t.Context(), seed, "test"); err != nil {
			t.Fatal(err)
		}
		if got := get(t, s, portalID).Secret.Reveal(); got != "y" {
			t.Errorf("after force it is %q", got)
		}
	})
}

func TestTheErrorSaysThatAServerIsPartOfACluster(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t)
	var failed error
	for _, id := range []string{"1", "2", "3", "4"} { // at least one of them is on another server
		client, err := store.Open(secret.New(cluster[0].URL()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = client.Close() })
		if _, err := newSource(t, newHub(t), tokens.Options{Redis: client}).Show(t.Context(), id); err != nil && !errors.Is(err, tokens.ErrNotConnected) {
			failed = err
		}
	}
	if failed == nil || !strings.Contains(failed.Error(), "this is a Redis Cluster, so add addr=") {
		t.Errorf("%v", failed)
	}
}
