package main

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/redistest"
	"hubspot-auth-proxy/tokens/testkit"
)

// Errors of a Redis that quotes each command contain the password and the credentials.
func TestErrorsOfRedisAreNotQuoted(t *testing.T) {
	t.Parallel()
	const canary = hubspottest.Canary
	hub := hubspottest.NewServer()
	t.Cleanup(hub.Close)
	ring := "first:" + strings.Repeat("A", 43) + "="
	for _, text := range redistest.Echoes() {
		for _, greet := range []bool{true, false} {
			if greet && strings.HasPrefix(text, "LOADING") {
				continue // go-redis keeps retrying
			}
			t.Run(text, func(t *testing.T) {
				t.Parallel()
				environ := []string{
					"REDIS_URL=redis://" + canary + "-user:" + canary + "-password@" + redistest.Fake(t, redistest.Echo(text, greet)) + "/3",
					"UPSTREAM_URL=" + hub.URL, "LISTEN_ADDR=127.0.0.1:0", "ADMIN_ADDR=127.0.0.1:0", "LOG_LEVEL=debug", "ENCRYPTION_KEYS=" + ring,
					"HUBSPOT_CLIENT_ID=" + hubspottest.ClientID, "HUBSPOT_CLIENT_SECRET=" + hubspottest.ClientSecret,
					"HUBSPOT_REDIRECT_URL=http://127.0.0.1/callback", "HUBSPOT_SCOPES=oauth",
					"HUBSPOT_PORTAL_ID=62515", "HUBSPOT_REFRESH_TOKEN=" + canary + "-refresh",
				}
				for _, args := range [][]string{
					{"serve"}, {"portal", "set", "1", "api_key"}, {"portal", "set", "1", "refresh_token", "--name", "N"}, {"portal", "list"},
					{"portal", "list", "--json", "--all"}, {"portal", "show", "1"}, {"portal", "show", "1", "--json"}, {"portal", "check", "1"},
					{"portal", "check", "--all", "--json"}, {"portal", "link", "--portal", "1"}, {"portal", "remove", "1"},
					{"client", "add", "c", "--portals", "1"}, {"client", "add", "c", "--portals", "1", "--replace"}, {"client", "list", "--json"},
					{"client", "remove", "c"}, {"keys", "rotate"},
				} {
					// serve waits until Redis answers.
					ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
					defer cancel()
					var printed testkit.Output
					err := run(ctx, args, environ, strings.NewReader(canary+"-secret"), &printed, &printed)
					code := status(err, &printed)
					out := printed.String()
					if strings.Contains(out, canary) {
						t.Errorf("%q prints a secret:\n%s", args, out)
					}
					if writes := len(args) > 1 && slices.Contains([]string{"set", "remove", "add"}, args[1]); writes && code == 0 {
						t.Errorf("%q: status %d, with an answer that is none:\n%s", args, code, out)
					}
				}
			})
		}
	}
}
