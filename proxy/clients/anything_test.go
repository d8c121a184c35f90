package clients_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"hubspot-auth-proxy/proxy/clients"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/redistest"
	"hubspot-auth-proxy/tokens/secret"
	"hubspot-auth-proxy/tokens/store"
)

// No answer of Redis' ends the process.
func TestARedisThatAnswersAnythingIsAnError(t *testing.T) {
	t.Parallel()
	greet := redistest.Echo("ERR %s", true)
	for _, odd := range []string{
		"*0\r\n", "$-1\r\n", ":1\r\n", "+OK\r\n", "*1\r\n:1\r\n", "*2\r\n+a\r\n:1\r\n", "*2\r\n:1\r\n+a\r\n", "*3\r\n:1\r\n:1\r\n:1\r\n",
		"*3\r\n$1\r\ne\r\n:1\r\n:0\r\n", "%1\r\n:1\r\n:1\r\n", "*1\r\n:7\r\n", "x\r\n", "$5\r\nab",
	} {
		addr := redistest.Fake(t, func(command []string) string {
			if greeting := greet(command); !strings.HasPrefix(greeting, "-") {
				return greeting
			}
			return odd
		})
		client, err := store.Open(secret.New("redis://" + addr + "?max_retries=-1&read_timeout=100ms"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = client.Close() })
		store := storeOf(client)
		one, _ := newClient("a", "1")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		t.Cleanup(cancel)
		s := clients.NewSet(store, zap.NewNop())
		_ = s.Load(ctx)
		s.Close()
		_, _ = store.List(ctx)
		if err := store.Add(ctx, one); err == nil {
			t.Errorf("%q: Add succeeds", odd)
		}
		if err := store.Remove(ctx, "a"); err == nil {
			t.Errorf("%q: Remove succeeds", odd)
		}
	}
}

// Nothing that Redis quotes is in an error.
func TestNoErrorHasWhatRedisQuotes(t *testing.T) {
	t.Parallel()
	for _, text := range redistest.Echoes() {
		for _, greet := range []bool{true, false} {
			t.Run(text, func(t *testing.T) {
				t.Parallel()
				client, err := store.Open(secret.New("redis://u:" + hubspottest.Canary + "@" + redistest.Fake(t, redistest.Echo(text, greet)) + "?max_retries=-1"))
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = client.Close() })
				store := storeOf(client)
				one, _ := newClient(hubspottest.Canary, "1")
				s, logs := newSet(t, client)
				_, listed := store.List(t.Context())
				for what, err := range map[string]error{
					"Load": s.Load(t.Context()), "List": listed, "Add": store.Add(t.Context(), one),
					"Create": store.Create(t.Context(), one), "Remove": store.Remove(t.Context(), one.Name),
				} {
					if err == nil || strings.Contains(err.Error(), hubspottest.Canary) {
						t.Errorf("%s: %v", what, err)
					}
				}
				for _, line := range logs.All() {
					if err, _ := line.ContextMap()["error"].(string); strings.Contains(line.Message+err, hubspottest.Canary) {
						t.Errorf("a secret is logged: %v", line)
					}
				}
			})
		}
	}
}
