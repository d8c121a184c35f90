package tokens_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/redistest"
	"hubspot-auth-proxy/tokens/secret"
	"hubspot-auth-proxy/tokens/store"
)

// watched is like newSource, for tests that read the log.
func watched(t *testing.T, hub *hubspottest.Server, options tokens.Options) (*tokens.Source, *logBuffer) {
	t.Helper()
	log := new(logBuffer)
	options.Prefix, options.RefreshAhead = "hubspot:", 5*time.Minute
	if options.App == nil {
		options.App = newApp(t, hub, nil)
	}
	options.Log = zap.New(zapcore.NewCore(
		zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), log, zap.DebugLevel))
	s := tokens.NewSource(options)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = s.Close(ctx)
		log.check(t)
	})
	return s, log
}

// lines returns the number of lines that have the text.
func (b *logBuffer) lines(text string) int {
	return strings.Count(b.String(), text)
}

// logged returns the number of entries with the text, including repeated entries that one line
// stands for.
func (b *logBuffer) logged(text string) int {
	n := 0
	for line := range strings.Lines(b.String()) {
		var fields struct{ Repeated int }
		if strings.Contains(line, text) && json.Unmarshal([]byte(line), &fields) == nil {
			n += max(fields.Repeated, 1)
		}
	}
	return n
}

// Lua cannot represent the first of these generations exactly, and the program never writes the
// others.
func TestAnInvalidGenerationDoesNotCauseEndlessRenewals(t *testing.T) {
	t.Parallel()
	for _, generation := range []string{"99999999999999999", "9007199254740993", "-1", "-5"} {
		t.Run(generation, func(t *testing.T) {
			onEachRedis(t, func(t *testing.T, connect connector) {
				hub, now, client := newHub(t), newClock(), connect(t)
				put(t, newSource(t, hub, tokens.Options{Redis: client}), portalID, tokens.OAuth, hub.Connect(portalID))
				if err := client.HSet(t.Context(), recordKey, "generation", generation).Err(); err != nil {
					t.Fatal(err)
				}
				hub.SetToken(hubspottest.TokenBehaviour{Code: "BAD_REFRESH_TOKEN"})

				var commands atomic.Int64
				client.AddHook(hook{before: func(cmd redis.Cmder) error {
					if commands.Add(1) > 2000 { // without a limit, it would continue until the stack is full
						return errCut
					}
					return nil
				}})
				s := newSource(t, hub, tokens.Options{Redis: client, Now: now.now})
				for range 20 {
					if !answers(t, s, portalID, &tokens.UnavailableError{}) {
						t.Fatal("not an UnavailableError")
					}
				}
				if n := commands.Load(); n > 50 {
					t.Errorf("%d commands to Redis", n)
				}
				wantCalls(t, hub, 0)
				if state := field(t, client, "state"); state != "active" {
					t.Errorf("the record is %s", state)
				}
			})
		})
	}
}

// wrongType replaces the portal's record by a value that is not a hash.
func wrongType(t *testing.T, client redis.UniversalClient, key string) {
	t.Helper()
	client = redistest.Admin(t, client)
	if err := errors.Join(client.Del(t.Context(), key).Err(), client.LPush(t.Context(), key, "x").Err()); err != nil {
		t.Fatal(err)
	}
}

func TestADamagedPortalDoesNotAffectOtherPortals(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(*testing.T, redis.UniversalClient){
		"a key of another type": func(t *testing.T, client redis.UniversalClient) { wrongType(t, client, recordKey) },
		"a bad generation": func(t *testing.T, client redis.UniversalClient) {
			client.HSet(t.Context(), recordKey, "generation", "x")
		},
	} {
		t.Run(name, func(t *testing.T) {
			onEachFullRedis(t, func(t *testing.T, connect connector) {
				hub, now, client := newHub(t), newClock(), connect(t)
				other := newSource(t, hub, tokens.Options{Redis: connect(t)})
				put(t, other, portalID, tokens.OAuth, "x")
				put(t, other, "1", tokens.APIKey, "good")
				damage(t, client)
				reads := counter(client, recordKey)
				s, log := watched(t, hub, tokens.Options{Redis: client, Now: now.now})
				listening(t, client, 2) // makes the source read its records again
				before := reads.Load()
				for i := range int64(13) {
					for range 50 {
						if !answers(t, s, portalID, &tokens.UnavailableError{}) {
							t.Fatal("not an UnavailableError")
						}
						get(t, s, "1")
					}
					// Once more when hints begin to arrive.
					if n := reads.Load() - before; n != i+1 && n != i+2 {
						t.Errorf("it was read %d times in %d × 5 s", n, i+1)
					}
					if n := log.lines("a portal's record cannot be used"); int64(n) != i/12+1 { // once a minute
						t.Errorf("it was logged %d times in %d × 5 s", n, i+1)
					}
					now.advance(5 * time.Second)
				}
				if n := log.lines("Redis does not answer"); n != 0 || !s.RedisAnswers() {
					t.Errorf("Redis is reported as unreachable: %d lines, RedisAnswers = %t", n, s.RedisAnswers())
				}
				// After the record is repaired, the portal is served, at the latest after 5 s.
				if err := client.Del(t.Context(), recordKey).Err(); err != nil {
					t.Fatal(err)
				}
				put(t, other, portalID, tokens.APIKey, "mended")
				if c := get(t, s, portalID); c.Kind != tokens.APIKey {
					t.Errorf("got a %s", c.Kind)
				}
			})
		})
	}
}

// This also holds for a portal that was served until its record was damaged.
func TestADamagedRecordOfAKnownPortalIsNotReadForEveryRequest(t *testing.T) {
	onEachRedis(t, func(t *testing.T, connect connector) {
		hub, now, client := newHub(t), newClock(), connect(t)
		s, log := watched(t, hub, tokens.Options{Redis: client, Now: now.now})
		listening(t, client, 1)
		seed(t, s, hub, portalID)
		c := get(t, s, portalID)
		now.advance(tokenLife) // first, because the message about the renewal may arrive late
		if err := client.HSet(t.Context(), recordKey, "generation", "x").Err(); err != nil {
			t.Fatal(err)
		}
		reads := counter(client, recordKey)
		for range 200 {
			if !answers(t, s, portalID, &tokens.UnavailableError{}) {
				t.Fatal("not an UnavailableError")
			}
			if _, err := s.Renew(t.Context(), c, true); !isError(t, err, &tokens.UnavailableError{}) {
				t.Fatalf("Renew: %v", err)
			}
		}
		if n := reads.Load(); n > 5 { // some may be in the background
			t.Errorf("it was read %d times", n)
		}
		// A read that began before the damage may end after the damage was found.
		if n := log.lines("a portal's record cannot be used"); n < 1 || n > 2 {
			t.Errorf("it was logged %d times", n)
		}
		wantCalls(t, hub, 1)
		// The operator can set the portal again, with immediate effect.
		if err := s.Remove(t.Context(), portalID, "test"); err != nil {
			t.Fatal(err)
		}
		seed(t, s, hub, portalID)
		get(t, s, portalID)
	})
}

func TestCloseStoresPortalsAlthoughOthersAreDamaged(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	hub, now, client, direct := newHub(t), newClock(), dial(t, server), dial(t, server)
	hub.SetToken(hubspottest.TokenBehaviour{Rotate: true})
	s := newSource(t, hub, tokens.Options{Redis: client, Now: now.now})
	const n = 12 // every second one is damaged
	key := func(i int) string { return fmt.Sprintf("hubspot:portal:{%d}", i) }
	for i := 1; i <= n; i++ {
		seed(t, s, hub, strconv.Itoa(i))
		get(t, s, strconv.Itoa(i))
	}
	c := cutoff(client)
	c.Store(true)
	now.advance(tokenLife)
	renewed := map[int]*tokens.Credential{}
	for i := 1; i <= n; i++ {
		renewed[i] = get(t, s, strconv.Itoa(i))
	}
	for i := 2; i <= n; i += 2 {
		wrongType(t, direct, key(i))
	}
	c.Store(false)
	err := <-closing(s, 10*time.Second)
	if err == nil || !strings.Contains(err.Error(), "WRONGTYPE") {
		t.Errorf("Close: %v", err)
	}
	for i := 1; i <= n; i += 2 {
		if got := direct.HGet(t.Context(), key(i), "access_token").Val(); !secret.New(got).Equal(renewed[i].Secret) {
			t.Errorf("portal %d is not stored", i)
		}
	}
}

func TestUnknownPortalsDoNotDisplaceKnownOnesWhileRedisIsUnreachable(t *testing.T) {
	t.Parallel()
	client, end := store.Embedded()
	t.Cleanup(end)
	s := newSource(t, newHub(t), tokens.Options{Redis: client, Now: newClock().now})
	const known, guesses = 200, 60_000
	for i := 1; i <= known; i++ {
		put(t, s, strconv.Itoa(i), tokens.APIKey, "x")
		get(t, s, strconv.Itoa(i))
	}
	cutoff(client).Store(true)
	for i := range guesses {
		if _, err := s.Credential(t.Context(), strconv.Itoa(1_000_000+i)); err == nil || errors.Is(err, tokens.ErrNotConnected) {
			t.Fatalf("%v, while nobody knows", err)
		}
	}
	lost := 0
	for i := 1; i <= known; i++ {
		if _, err := s.Credential(t.Context(), strconv.Itoa(i)); err != nil {
			lost++
		}
	}
	if lost > 0 {
		t.Errorf("%d of %d known portals are gone", lost, known)
	}
}

// The fields of the former kind are deleted when a record of another kind is stored.
func TestNoFieldOfTheFormerKindIsLeftInARecord(t *testing.T) {
	onEachRedis(t, func(t *testing.T, connect connector) {
		hub, client := newHub(t), connect(t)
		s := newSource(t, hub, tokens.Options{Redis: client})
		own := map[tokens.Kind]string{tokens.OAuth: "refresh_token", tokens.AccessToken: "access_token", tokens.APIKey: "api_key"}
		set := func(kind tokens.Kind, value string) {
			t.Helper()
			if err := s.Set(t.Context(), tokens.Seed{Portal: portalID, Kind: kind, Secret: secret.New(value), Name: string(kind)}, "test"); err != nil {
				t.Fatal(err)
			}
		}
		has := func(after string, wants string, value string) {
			t.Helper()
			for _, name := range []string{"refresh_token", "access_token", "api_key", "expires_at", "renewed_at", "renewed_for", "ended_code"} {
				if got := field(t, client, name); name != wants && got != "" || name == wants && got != value {
					t.Errorf("%s: %s is %q", after, name, got)
				}
			}
		}
		n := 0
		for _, from := range []tokens.Kind{tokens.OAuth, tokens.AccessToken, tokens.APIKey} {
			for _, to := range []tokens.Kind{tokens.OAuth, tokens.AccessToken, tokens.APIKey} {
				n++
				if from == tokens.OAuth {
					set(from, hub.Connect(portalID))
					get(t, s, portalID) // the record then also has an access token and times
				} else {
					set(from, "former"+strconv.Itoa(n))
				}
				value := "new" + strconv.Itoa(n)
				set(to, value)
				has(fmt.Sprintf("%s after %s", to, from), own[to], value)
			}
		}
		set(tokens.APIKey, "last")
		if err := s.Remove(t.Context(), portalID, "test"); err != nil {
			t.Fatal(err)
		}
		has("removed", "", "")
		if name := field(t, client, "name"); name != "" {
			t.Errorf("the name %q is left", name)
		}
	})
}

// aging is a transport that advances the clock during each call.
type aging struct {
	http.RoundTripper
	now *clock
	by  time.Duration
}

func (a aging) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := a.RoundTripper.RoundTrip(r)
	a.now.advance(a.by)
	return response, err
}
