//go:build unix

package redistest_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"hubspot-auth-proxy/tokens/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestARestartedServerIsEmptyUnlessItPersists(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		options []redistest.Option
		want    error
	}{
		{"empty", nil, redis.Nil},
		{"persisted", []redistest.Option{redistest.Persist()}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t, tt.options...)
			client := server.Client(t)
			if err := client.Set(t.Context(), "k", "v", 0).Err(); err != nil {
				t.Fatal(err)
			}
			server.Kill()
			if err := client.Get(t.Context(), "k").Err(); err == nil || errors.Is(err, redis.Nil) {
				t.Errorf("a killed server answers: %v", err)
			}
			server.Restart()
			if err := client.Get(t.Context(), "k").Err(); !errors.Is(err, tt.want) {
				t.Errorf("after the restart: %v, want %v", err, tt.want)
			}
		})
	}
}

func TestAPausedServerDoesNotAnswer(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := server.Client(t)
	server.Pause()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := client.Ping(ctx).Err(); err == nil {
		t.Error("the paused server answers")
	}
	server.Resume()
	if err := client.Ping(t.Context()).Err(); err != nil {
		t.Error(err)
	}
}
