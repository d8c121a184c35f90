package store_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/secret"
	"hubspot-auth-proxy/tokens/store"
)

// reply is an error with which Redis has answered.
type reply string

func (r reply) Error() string { return string(r) }
func (reply) RedisError()     {}

func TestAnErrorHasRedisCodeAndNothingThatRedisQuotes(t *testing.T) {
	t.Parallel()
	const canary = hubspottest.Canary
	for _, tt := range []struct {
		err      error
		want     string
		answered bool
	}{
		{reply("ERR unknown command 'auth', with args beginning with: '" + canary + "'"), "Redis answers: unknown command", true},
		{reply("ERR unknown subcommand '" + canary + "'"), "Redis answers with an error", true},
		{reply("ERR max number of clients reached"), "Redis answers: max number of clients reached", true},
		{reply(canary), "Redis answers with an error", true},
		{reply(""), "Redis answers with an error", true},
		{reply("SECRET " + canary), "Redis answers with an error", true},
		{reply("ERR LOADING " + canary), "Redis answers LOADING", false},
		{reply("NOAUTH Authentication required."), "Redis answers NOAUTH", false},
		{reply("WRONGPASS invalid username-password pair " + canary), "Redis answers WRONGPASS", false},
		{reply("WRONGTYPE " + canary), "Redis answers WRONGTYPE", true},
		{reply("NOREPLICAS Not enough good replicas to write."), "Redis answers NOREPLICAS", true},
		{reply("MISCONF the state file cannot be written"), "Redis answers MISCONF: it cannot write to its disk, and refuses changes until it can", true},
		{reply("NOPERM this user has no permissions to run the 'hgetall' command"), "NOPERM: the Redis user may not use HGETALL", true},
		{reply("NOPERM User u has no permissions to run the 'client|setinfo' command"), "NOPERM: the Redis user may not use CLIENT|SETINFO", true},
		{reply("NOPERM this user has no permissions to run the 'canary' command"), "NOPERM: the Redis user has no right to this key or channel", true},
		{reply("NOPERM No permissions to access a key " + canary), "NOPERM: the Redis user has no right to this key or channel", true},
		{redis.Nil, "Redis answers with nothing", false},
		{store.ErrShape, store.ErrShape.Error(), false},
		{fmt.Errorf("redis: can't parse %q", canary), secret.Cause(errors.New("not known")).Error(), false},
		{io.EOF, "the connection was closed", false},
		{context.DeadlineExceeded, "timeout", false},
	} {
		err := fmt.Errorf("portal 1: %w", store.Failure("read from Redis", tt.err))
		failure, is := errors.AsType[*store.Error](err)
		if !is {
			t.Fatalf("%v is not a *store.Error", err)
		}
		if got := failure.Error(); got != "read from Redis: "+tt.want || failure.Answered() != tt.answered {
			t.Errorf("the text of %v is %q, answered %t", tt.err, got, failure.Answered())
		}
		if strings.Contains(fmt.Sprintf("%v %+v %s", err, err, failure), canary) {
			t.Errorf("the error has a secret: %v", err)
		}
		if !errors.Is(err, tt.err) || store.Failure("again", err) != err {
			t.Errorf("%v is another error", err)
		}
	}
	if store.Failure("nothing", nil) != nil {
		t.Error("nil is an error")
	}
}
