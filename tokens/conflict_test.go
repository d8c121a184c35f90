package tokens_test

import (
	"context"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspot"
	"hubspot-auth-proxy/tokens/secret"
	"hubspot-auth-proxy/tokens/store"
)

// contested returns a client that writes to an embedded Redis in which another process changes
// the record before each script of the client.
func contested(t *testing.T) redis.UniversalClient {
	client, end := store.Embedded()
	t.Cleanup(end)
	client.AddHook(hook{before: func(cmd redis.Cmder) error {
		if strings.HasPrefix(cmd.Name(), "eval") && client.Exists(context.Background(), recordKey).Val() == 1 {
			return client.HIncrBy(context.Background(), recordKey, "generation", 1).Err()
		}
		return nil
	}})
	return client
}

func TestTheErrorOfAConflictNamesBothRecordsAndWhatToDo(t *testing.T) {
	t.Parallel()
	const both = `: grant 1, generation 6 \(active\), where grant 1, generation 5 \(active\) was expected$`
	for name, tt := range map[string]struct {
		change func(*tokens.Source) error
		want   string
	}{
		"seal": {func(s *tokens.Source) error {
			_, err := s.Reseal(t.Context(), portalID, "test")
			return err
		}, "try again.*" + both},
		"connect": {func(s *tokens.Source) error {
			granted := hubspot.Token{Access: secret.New("a"), Refresh: secret.New("r"), ExpiresIn: time.Hour}
			return s.Connect(t.Context(), portalID, granted, tokens.ConnectRequest{Issued: time.Now().Add(time.Minute)}, "test")
		}, "connect the portal again.*" + both},
	} {
		t.Run(name, func(t *testing.T) {
			client, old := contested(t), newKey(t, "old")
			hub := newHub(t)
			put(t, newSource(t, hub, tokens.Options{Redis: client, Keys: ring(t, old)}), portalID, tokens.APIKey, "k")
			err := tt.change(newSource(t, hub, tokens.Options{Redis: client, Keys: ring(t, newKey(t, "young"), old)}))
			if err == nil || !regexp.MustCompile(tt.want).MatchString(err.Error()) {
				t.Errorf("the error is %v", err)
			}
		})
	}
}
