package tokens_test

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspot"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/redistest"
	"hubspot-auth-proxy/tokens/secret"
	"hubspot-auth-proxy/tokens/testkit"
)

// otherApp returns an app that has none of the grants.
func otherApp(t *testing.T, hub *hubspottest.Server) *hubspot.App {
	app := newApp(t, hub, nil)
	app.ClientID, app.ClientSecret = hubspottest.OtherClientID, secret.New(hubspottest.OtherClientSecret)
	return app
}

// endedError returns err as an EndedError, or nil if err is nil or another error.
func endedError(s *tokens.Source) *tokens.EndedError {
	_, err := s.Credential(context.Background(), portalID)
	ended, _ := errors.AsType[*tokens.EndedError](err)
	return ended
}

// everyone calls the portal through each source at the same time.
func everyone(sources []*tokens.Source) {
	var all sync.WaitGroup
	for _, s := range sources {
		all.Go(func() { _, _ = s.Credential(context.Background(), portalID) })
	}
	all.Wait()
}

// fleet returns five sources on one real Redis.
func fleet(t *testing.T, hub *hubspottest.Server, now *clock) (sources []*tokens.Source, client redis.UniversalClient) {
	t.Helper()
	server := redistest.Start(t)
	client = dial(t, server)
	for range 5 {
		sources = append(sources, newSource(t, hub, tokens.Options{Redis: dial(t, server), Now: now.now}))
	}
	listening(t, client, 5)
	return sources, client
}

func TestFiveReplicasTryARefusedGrantOnlyByTheSchedule(t *testing.T) {
	t.Parallel()
	hub, now := newHub(t), newClock()
	sources, client := fleet(t, hub, now)
	seed(t, sources[0], hub, portalID)
	hub.SetToken(hubspottest.TokenBehaviour{Code: "BAD_REFRESH_TOKEN"})
	began := now.now()
	calls, hour := map[time.Duration]int{}, []time.Duration{0, time.Minute, 10 * time.Minute, time.Hour}
	for at := time.Duration(0); at <= time.Hour; at += 15 * time.Second {
		before := hub.TokenCalls(portalID)
		everyone(sources)
		if n := hub.TokenCalls(portalID) - before; n > 0 {
			calls[at] = n
		}
		now.advance(15 * time.Second)
	}
	for _, at := range hour {
		if calls[at] != 1 {
			t.Errorf("%d calls after %v", calls[at], at)
		}
	}
	if len(calls) != len(hour) {
		t.Errorf("calls at other times than those of the schedule: %v", calls)
	}
	for range 7 * 24 {
		now.advance(time.Hour)
		everyone(sources)
	}
	wantCalls(t, hub, len(hour)+27)
	ended := endedError(sources[1])
	if ended == nil || !ended.Since.Equal(began) || !ended.Next.IsZero() {
		t.Errorf("%+v, ended at %v", ended, began)
	}
	if state := field(t, client, "state"); state != "ended" {
		t.Errorf("the record is %s", state)
	}
}

func TestAGrantThatHubSpotAcceptsAgainIsActiveAtItsNextTry(t *testing.T) {
	onEachRedis(t, func(t *testing.T, connect connector) {
		hub, now, client := newHub(t), newClock(), connect(t)
		a := newSource(t, hub, tokens.Options{Redis: client, Now: now.now})
		b := newSource(t, hub, tokens.Options{Redis: connect(t), Now: now.now})
		listening(t, client, 2)
		seed(t, a, hub, portalID)
		hub.SetToken(hubspottest.TokenBehaviour{Code: "BAD_REFRESH_TOKEN"})
		ended := endedError(a)
		if ended == nil || !ended.Next.Equal(now.now().Add(time.Minute)) {
			t.Fatalf("%+v", ended)
		}
		hub.SetToken(hubspottest.TokenBehaviour{})
		now.advance(time.Minute)
		get(t, b, portalID)
		get(t, a, portalID)
		wantCalls(t, hub, 2)
		for _, name := range []string{"ended_at", "ended_code", "noted_at", "tried_with"} {
			if value := field(t, client, name); value != "" {
				t.Errorf("%s is still %q", name, value)
			}
		}
	})
}

// While the access token is valid, no request waits for the try.
func TestARefusedGrantIsTriedWhileItsTokenIsServed(t *testing.T) {
	t.Parallel()
	hub, now := newHub(t), newClock()
	sources, client := fleet(t, hub, now)
	seed(t, sources[0], hub, portalID)
	first := get(t, sources[0], portalID)
	hub.SetToken(hubspottest.TokenBehaviour{Code: "BAD_HUB"})
	now.advance(tokenLife - 4*time.Minute)
	everyone(sources)
	testkit.Eventually(t, "the grant is marked as ended", func() bool { return field(t, client, "state") == "ended" })
	hub.SetToken(hubspottest.TokenBehaviour{})
	now.advance(time.Minute)
	if got := get(t, sources[0], portalID); !got.Secret.Equal(first.Secret) {
		t.Error("the request has waited for the try")
	}
	testkit.Eventually(t, "the grant is active again", func() bool {
		get(t, sources[0], portalID) // this source may not have read yet that the grant has ended
		return field(t, client, "state") == "active"
	})
	for _, s := range sources {
		testkit.Eventually(t, "each replica has the new token", func() bool { return hasOther(s, first) })
	}
	wantCalls(t, hub, 3)
}

func TestTriesWithoutAnAnswerAreRepeatedOnceAMinute(t *testing.T) {
	t.Parallel()
	hub, now := newHub(t), newClock()
	sources, _ := fleet(t, hub, now)
	seed(t, sources[0], hub, portalID)
	hub.SetToken(hubspottest.TokenBehaviour{Code: "BAD_REFRESH_TOKEN"})
	everyone(sources)
	wantCalls(t, hub, 1)
	hub.SetToken(hubspottest.TokenBehaviour{Status: http.StatusBadGateway})
	for range 30 { // from the first minute to the sixth, inclusively
		now.advance(12 * time.Second)
		everyone(sources)
	}
	wantCalls(t, hub, 1+6)
	if endedError(sources[0]) == nil {
		t.Error("the portal is not ended any more")
	}
	hub.SetToken(hubspottest.TokenBehaviour{})
	now.advance(time.Minute)
	get(t, sources[3], portalID)
	wantCalls(t, hub, 1+7)
}

func TestAGrantOfAnotherAppIsNotTried(t *testing.T) {
	onEachRedis(t, func(t *testing.T, connect connector) {
		hub, now, client := newHub(t), newClock(), connect(t)
		right := newSource(t, hub, tokens.Options{Redis: client, Now: now.now})
		seed(t, right, hub, portalID)
		get(t, right, portalID)
		now.advance(tokenLife + time.Second)
		before := client.HGetAll(t.Context(), recordKey).Val()
		wrong, log := watched(t, hub, tokens.Options{Redis: connect(t), Now: now.now, App: otherApp(t, hub)})
		for range 20 {
			_, err := wrong.Credential(t.Context(), portalID)
			mismatch, is := errors.AsType[*tokens.AppMismatchError](err)
			if !is || !isError(t, err, &tokens.UnavailableError{}) || mismatch.Grant != hubspottest.ClientID || mismatch.Configured != hubspottest.OtherClientID {
				t.Fatalf("%v", err)
			}
			now.advance(5 * time.Second)
		}
		wantCalls(t, hub, 1)
		if after := client.HGetAll(t.Context(), recordKey).Val(); len(before) == 0 || before["state"] != after["state"] || before["noted_at"] != after["noted_at"] {
			t.Errorf("the record has changed: %s, %s", after["state"], after["noted_at"])
		}
		for _, id := range []string{hubspottest.ClientID, hubspottest.OtherClientID} {
			if log.lines(id) == 0 {
				t.Errorf("the log does not name %s", id)
			}
		}
		get(t, right, portalID)
		wantCalls(t, hub, 2)
	})
}

// A start with the credentials of another app must not end a grant permanently, although older
// records do not name their app.
func TestAGrantOfAnUnknownAppRecoversAtTheFirstStartWithTheRightApp(t *testing.T) {
	onEachRedis(t, func(t *testing.T, connect connector) {
		hub, now, client := newHub(t), newClock(), connect(t)
		wrong := newSource(t, hub, tokens.Options{Redis: client, Now: now.now, App: otherApp(t, hub)})
		seed(t, wrong, hub, portalID)
		if endedError(wrong) == nil {
			t.Fatal("HubSpot does not refuse the grant")
		}
		wantCalls(t, hub, 1)
		right := []*tokens.Source{
			newSource(t, hub, tokens.Options{Redis: connect(t), Now: now.now}),
			newSource(t, hub, tokens.Options{Redis: connect(t), Now: now.now}),
		}
		everyone(right)
		for _, s := range right {
			get(t, s, portalID)
		}
		wantCalls(t, hub, 2)
		now.advance(time.Hour)
		testkit.Eventually(t, "the wrong app does not try any more", func() bool {
			_, err := wrong.Credential(t.Context(), portalID)
			_, is := errors.AsType[*tokens.AppMismatchError](err)
			return is
		})
		wantCalls(t, hub, 2)
	})
}

// A record that an earlier version has marked as ended does not name the apps that were tried.
func TestAGrantThatAnEarlierVersionHasMarkedAsEndedIsTriedOnce(t *testing.T) {
	t.Parallel()
	hub, now := newHub(t), newClock()
	sources, client := fleet(t, hub, now)
	refresh := hub.Connect(portalID)
	client.HSet(t.Context(), recordKey, "schema", "1", "kind", "oauth", "state", "ended", "ended_code", "BAD_REFRESH_TOKEN", "generation", "7", "refresh_token", refresh)
	hub.SetToken(hubspottest.TokenBehaviour{Code: "BAD_REFRESH_TOKEN"})
	everyone(sources)
	everyone(sources)
	wantCalls(t, hub, 1)
	hub.SetToken(hubspottest.TokenBehaviour{})
	now.advance(time.Minute)
	everyone(sources)
	for _, s := range sources {
		get(t, s, portalID)
	}
	wantCalls(t, hub, 2)
}

// During an update of the client secret, both secrets are in use.
func TestTwoClientSecretsDoNotTryAGrantAlternately(t *testing.T) {
	t.Parallel()
	hub, now := newHub(t), newClock()
	server := redistest.Start(t)
	a := newSource(t, hub, tokens.Options{Redis: dial(t, server), Now: now.now})
	b := newSource(t, hub, tokens.Options{Redis: dial(t, server), Now: now.now, App: otherApp(t, hub)})
	listening(t, dial(t, server), 2)
	seed(t, a, hub, portalID)
	hub.Disconnect(portalID)
	for range 50 {
		everyone([]*tokens.Source{a, b})
		now.advance(time.Second)
	}
	wantCalls(t, hub, 2)
}

// An earlier version, which does not know the field, keeps it when it stores another grant.
func TestTheAppOfAFormerGrantDoesNotCount(t *testing.T) {
	t.Parallel()
	hub, now := newHub(t), newClock()
	client := dial(t, redistest.Start(t))
	s := newSource(t, hub, tokens.Options{Redis: client, Now: now.now, App: otherApp(t, hub)})
	right := newSource(t, hub, tokens.Options{Redis: client, Now: now.now})
	seed(t, right, hub, portalID)
	get(t, right, portalID)
	silently(t, client, "refresh_token", hub.Connect(portalID), "access_token", "", "expires_at", "")
	if endedError(s) == nil {
		t.Error("the grant, whose app is not known, is not tried")
	}
}

func TestACommandTriesARefusedGrantAtOnce(t *testing.T) {
	t.Parallel()
	hub, now := newHub(t), newClock()
	sources, client := fleet(t, hub, now)
	seed(t, sources[0], hub, portalID)
	hub.SetToken(hubspottest.TokenBehaviour{Code: "BAD_REFRESH_TOKEN"})
	everyone(sources)
	if _, err := sources[1].TryAgain(t.Context(), portalID); !isError(t, err, &tokens.EndedError{}) {
		t.Errorf("TryAgain: %v", err)
	}
	wantCalls(t, hub, 2)
	hub.SetToken(hubspottest.TokenBehaviour{Status: 500})
	_, err := sources[2].TryAgain(t.Context(), portalID)
	if ended, is := errors.AsType[*tokens.EndedError](err); !is || ended.Err == nil {
		t.Errorf("TryAgain: %v", err)
	}
	hub.SetToken(hubspottest.TokenBehaviour{})
	if _, err := sources[1].TryAgain(t.Context(), portalID); err != nil {
		t.Errorf("TryAgain: %v", err)
	}
	if state := field(t, client, "state"); state != "active" {
		t.Errorf("the record is %s", state)
	}
	if _, err := sources[4].TryAgain(t.Context(), portalID); err != nil {
		t.Errorf("TryAgain of an active portal: %v", err)
	}
	wantCalls(t, hub, 4)
}
