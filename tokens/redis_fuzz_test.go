package tokens_test

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"

	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/redistest"
	"hubspot-auth-proxy/tokens/secret"
	"hubspot-auth-proxy/tokens/store"
)

// answers that are none, or of another shape than the command's.
var oddAnswers = []string{
	"*0\r\n", "*-1\r\n", "$-1\r\n", "_\r\n", "+OK\r\n", ":1\r\n", ":-1\r\n", "*1\r\n:1\r\n", "*2\r\n:1\r\n:2\r\n", "*2\r\n$1\r\na\r\n:2\r\n",
	"*3\r\n:1\r\n:2\r\n:3\r\n", "*3\r\n$1\r\na\r\n:2\r\n:3\r\n", "*3\r\n:0\r\n:2\r\n$-1\r\n", "*3\r\n*0\r\n*0\r\n*0\r\n", "*3\r\n:1\r\n$1\r\na\r\n$1\r\nb\r\n",
	"%1\r\n+a\r\n+b\r\n", "%1\r\n+schema\r\n*0\r\n", "*3\r\n$7\r\nmessage\r\n:1\r\n:1\r\n", "*1\r\n:7\r\n", ">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n",
	"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n$1\r\nb\r\n", "*2\r\n$1\r\n0\r\n*1\r\n:1\r\n", "*2\r\n:0\r\n:0\r\n", "#t\r\n", ",1.5\r\n", "(99999999999999999999\r\n",
	"-\r\n", "-ERR\r\n", "-NOSCRIPT x\r\n", "\r\n", "x\r\n", "$5\r\nab", "*10000\r\n", "!3\r\nERR\r\n", "~1\r\n+a\r\n", "|1\r\n+a\r\n+b\r\n+c\r\n",
}

// long is a length for which go-redis allocates that much memory before it reads on.
var long = regexp.MustCompile(`[*$%~|>!=][+0]*[1-9][0-9]{5}`)

// FuzzARedisThatAnswersAnything checks that no answer of Redis ends the program, or results in
// an error that Credential does not document.
func FuzzARedisThatAnswersAnything(f *testing.F) {
	var answer atomic.Pointer[string]
	greet := redistest.Echo("ERR %s", true)
	addr := redistest.Fake(f, func(command []string) string {
		if greeting := greet(command); !strings.HasPrefix(greeting, "-") {
			return greeting
		}
		return *answer.Load()
	})
	for _, odd := range oddAnswers {
		f.Add(odd)
	}
	f.Fuzz(func(t *testing.T, odd string) {
		if long.MatchString(odd) {
			t.Skip()
		}
		answer.Store(&odd)
		client, err := store.Open(secret.New("redis://" + addr + "?max_retries=-1&read_timeout=100ms"))
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		s := tokens.NewSource(tokens.Options{Redis: client, Prefix: "hubspot:", Log: zap.NewNop()})
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		value := tokens.Seed{Portal: portalID, Kind: tokens.APIKey, Secret: secret.New("x")}
		_, err = s.Credential(ctx, portalID)
		if _, ended := errors.AsType[*tokens.EndedError](err); err != nil && ctx.Err() == nil && !ended &&
			!isError(t, err, tokens.ErrNotConnected) && !isError(t, err, &tokens.UnavailableError{}) {
			t.Errorf("Credential has an error that is not documented: %v", err)
		}
		_, _ = s.Show(ctx, portalID)
		_, _ = s.Portals(ctx)
		_, _ = s.Seed(ctx, value)
		_ = s.Set(ctx, value, "test")
		_ = s.Remove(ctx, portalID, "test")
		_, _ = s.Reseal(ctx, portalID, "test")
		_, _ = s.Burn(ctx, "nonce", time.Now(), time.Minute)
		_ = s.Survey(ctx)
		_, _ = s.CheckKeys(ctx)
		_ = s.Overview(ctx, tokens.Query{Most: 1})
		_, _ = s.Portal(ctx, portalID)
		_ = store.Check(ctx, client)
		_ = s.Close(ctx)
	})
}
