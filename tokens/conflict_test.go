package tokens_test

import (
	"context"
	"errors"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspot"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/secret"
	"hubspot-auth-proxy/tokens/store"
)

// contested returns a client that writes to an embedded Redis in which another process changes
// the record's generation by the difference before each script of the client.
func contested(t *testing.T, difference int64) redis.UniversalClient {
	t.Helper()
	client, end := store.Embedded()
	t.Cleanup(end)
	client.AddHook(hook{before: func(cmd redis.Cmder) error {
		if strings.HasPrefix(cmd.Name(), "eval") && client.Exists(context.Background(), recordKey).Val() == 1 {
			return client.HIncrBy(context.Background(), recordKey, "generation", difference).Err()
		}
		return nil
	}})
	return client
}

func TestTheErrorOfAConflictNamesBothRecordsAndWhatToDo(t *testing.T) {
	t.Parallel()
	const both = `: grant 1, generation (\d+) \(active\), where grant 1, generation (\d+) \(active\) was expected$`
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
			client, old := contested(t, 1), newKey(t, "old")
			hub := newHub(t)
			put(t, newSource(t, hub, tokens.Options{Redis: client, Keys: ring(t, old)}), portalID, tokens.APIKey, "k")
			err := tt.change(newSource(t, hub, tokens.Options{Redis: client, Keys: ring(t, newKey(t, "young"), old)}))
			if err == nil || !regexp.MustCompile(tt.want).MatchString(err.Error()) {
				t.Fatalf("the error is %v", err)
			}
			generations := regexp.MustCompile(both).FindStringSubmatch(err.Error())
			if number(t, generations[1]) != number(t, generations[2])+1 {
				t.Errorf("the error is %v", err)
			}
		})
	}
}

func number(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestARefusedGrantThatCannotBeStoredIsReportedWithBothRecords(t *testing.T) {
	t.Parallel()
	hub := newHub(t)
	hub.SetToken(hubspottest.TokenBehaviour{Code: "BAD_REFRESH_TOKEN"})
	s := newSource(t, hub, tokens.Options{Redis: contested(t, 1)})
	seed(t, s, hub, portalID)
	_, err := s.Credential(t.Context(), portalID)
	const want = `HubSpot refuses the grant \(BAD_REFRESH_TOKEN\), and the refusal could not be stored: .*: grant 1, generation \d+ \(active\), where grant 1, generation \d+ \(active\) was expected$`
	if unavailable, is := errors.AsType[*tokens.UnavailableError](err); !is || !regexp.MustCompile(want).MatchString(unavailable.Err.Error()) {
		t.Errorf("the error is %v", err)
	}
}

// The other process changes the record to older ones, so that the renewed record must be stored.
func TestARenewedPortalThatCannotBeStoredIsLoggedWithBothRecordsAndWhatToDo(t *testing.T) {
	t.Parallel()
	hub := newHub(t)
	s, log := watched(t, hub, tokens.Options{Redis: contested(t, -1)})
	set := tokens.Seed{Portal: portalID, Kind: tokens.OAuth, Secret: secret.New(hub.Connect(portalID))}
	if err := s.Set(t.Context(), set, "test"); err != nil {
		t.Fatal(err)
	}
	get(t, s, portalID)
	const want = `could not be stored yet; it is kept in memory.*other processes change the record at the same time: .*: grant \d+, generation \d+ \(active\), where grant \d+, generation \d+ \(active\) was expected; if this repeats, portal show prints`
	if !regexp.MustCompile(want).MatchString(log.String()) {
		t.Error("the log does not have the reason")
	}
}
