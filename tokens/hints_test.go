package tokens_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/redistest"
	"hubspot-auth-proxy/tokens/secret"
	"hubspot-auth-proxy/tokens/store"
	"hubspot-auth-proxy/tokens/testkit"
)

var floodFlag = flag.Duration("flood", 2*time.Second, "how long messages are published at a high rate")

// floods are the messages that a user with the right to publish, and without rights to keys, can send.
var floods = map[string]func(dice *rand.Rand, id, former string) string{
	"random": func(dice *rand.Rand, _, _ string) string {
		text := make([]byte, dice.IntN(64))
		for i := range text {
			text[i] = byte(dice.Uint32())
		}
		return string(text)
	},
	"the portal":      func(_ *rand.Rand, id, _ string) string { return id },
	"another portal":  func(dice *rand.Rand, _, _ string) string { return strconv.Itoa(1 + dice.IntN(1e9)) },
	"an old one":      func(_ *rand.Rand, id, former string) string { return id + " " + former + " removed" },
	"a future one":    func(_ *rand.Rand, id, _ string) string { return id + " 9007199254740990 removed" },
	"a future ending": func(_ *rand.Rand, id, _ string) string { return id + " 9007199254740990 ended" },
	"a huge number":   func(_ *rand.Rand, id, _ string) string { return id + " 99999999999999999999999 removed" },
	"malformed":       func(_ *rand.Rand, id, _ string) string { return id + "\x00 -1 \r\n*3\r\n" },
	"large":           func(_ *rand.Rand, id, _ string) string { return id + strings.Repeat("9", 100<<10) },
	"a new epoch":     func(*rand.Rand, string, string) string { return "epoch" },
}

// flood publishes messages of all kinds on the channels, 1,000 a second if the machine is fast enough,
// and calls meanwhile between them. It ends after the time of floodFlag, and not before it has sent least
// messages.
func flood(t *testing.T, client redis.UniversalClient, channels []string, least int, meanwhile func(id string)) {
	t.Helper()
	dice := rand.New(rand.NewPCG(11, 1))
	ids := []string{portalID, "1", "2", "3"}
	former := field(t, client, "generation")
	client = redistest.Admin(t, client)
	began, sent := time.Now(), 0
	for time.Since(began) < *floodFlag || sent < least {
		id := ids[dice.IntN(len(ids))]
		_, err := client.Pipelined(t.Context(), func(p redis.Pipeliner) error {
			for _, say := range floods {
				for _, channel := range channels {
					p.Publish(t.Context(), channel, say(dice, id, former))
					sent++
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		meanwhile(id)
		if early := time.Duration(sent)*time.Millisecond - time.Since(began); early > 0 {
			<-time.After(early)
		}
	}
}

// contents returns all keys and values of the database.
func contents(t *testing.T, client redis.UniversalClient) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, key := range redistest.Admin(t, client).Keys(t.Context(), "*").Val() {
		all[key] = client.Dump(t.Context(), key).Val()
	}
	return all
}

func TestMessagesChangeNoRecordAndNoAnswer(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	hub, client := newHub(t), dial(t, server)
	served := newSource(t, hub, tokens.Options{Redis: dial(t, server)})
	idle := newSource(t, hub, tokens.Options{Redis: dial(t, server)})
	listening(t, client, 2)
	seed(t, served, hub, portalID)
	put(t, served, "1", tokens.AccessToken, "one")
	put(t, served, "2", tokens.APIKey, "two")
	put(t, served, "3", tokens.APIKey, "three")
	if err := served.Remove(t.Context(), "3", "test"); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for _, id := range []string{portalID, "1", "2"} {
		want[id] = get(t, served, id).Secret.Reveal()
		get(t, idle, id)
	}
	testkit.Eventually(t, "what is under way has ended", func() bool { return client.Exists(t.Context(), lockKey).Val() == 0 })
	before := contents(t, client)

	event := eventsOf(t, client)
	channels := []string{event, "hubspot:events", strings.Replace(event, "hubspot:", "staging:", 1)}
	ask := func(s *tokens.Source, id string) {
		c, err := s.Credential(t.Context(), id)
		if id == "3" && !isError(t, err, tokens.ErrNotConnected) || id != "3" && (err != nil || c.Secret.Reveal() != want[id]) {
			t.Fatalf("portal %s: %v", id, err)
		}
	}
	flood(t, client, channels, int(floodFlag.Seconds()*200), func(id string) { ask(served, id) })
	for id := range want {
		ask(served, id)
		ask(idle, id)
	}
	if diff := cmp.Diff(before, contents(t, client)); diff != "" {
		t.Errorf("what is stored has changed, -before +after:\n%s", diff)
	}
	wantCalls(t, hub, 1)
	// Messages about changes still work.
	set := tokens.Seed{Portal: "1", Kind: tokens.AccessToken, Secret: secret.New("other")}
	if err := served.Set(t.Context(), set, "test"); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the change arrives", func() bool { return get(t, idle, "1").Secret.Reveal() == "other" })
}

// Redis sends a message to the subscribers of all databases of a server, and of all prefixes.
func TestDatabasesAndPrefixesOfOneServerDoNotAffectEachOther(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	for name, tt := range map[string]struct{ production, staging [2]string }{
		"two databases": {production: [2]string{"/2", "hubspot:"}, staging: [2]string{"/3", "hubspot:"}},
		"two prefixes":  {production: [2]string{"/4", "hubspot:"}, staging: [2]string{"/4", "hubspot:events:"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			open := func(at [2]string) *tokens.Source {
				client, err := store.Open(secret.New(server.URL() + at[0]))
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = client.Close() })
				return newSource(t, newHub(t), tokens.Options{Redis: client, Prefix: at[1]})
			}
			production, other, staging := open(tt.production), open(tt.production), open(tt.staging)
			for _, s := range []*tokens.Source{production, staging} {
				put(t, s, portalID, tokens.AccessToken, "live")
			}
			get(t, other, portalID)
			for i := range 50 {
				if i%2 == 0 {
					if err := staging.Remove(t.Context(), portalID, "test"); err != nil {
						t.Fatal(err)
					}
				} else {
					put(t, staging, portalID, tokens.AccessToken, fmt.Sprintf("staging %d", i))
				}
				for _, s := range []*tokens.Source{production, other} {
					if c := get(t, s, portalID); c.Secret.Reveal() != "live" {
						t.Fatal("production has what staging has")
					}
				}
			}
			// A new process reads what the first database has.
			if get(t, open(tt.production), portalID).Secret.Reveal() != "live" {
				t.Error("production's record has changed")
			}
		})
	}
}

// After a message, the next use waits until the record was read, unless Redis is slow.
func TestARecordIsReadAfterAHintBeforeItIsUsedAgain(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	hub, client := newHub(t), dial(t, server)
	wire := server.Wire(t)
	behind := open(t, wire.URL())
	s := newSource(t, hub, tokens.Options{Redis: behind})
	operator := newSource(t, hub, tokens.Options{Redis: dial(t, server)})
	listening(t, client, 2)
	put(t, operator, portalID, tokens.AccessToken, "1")
	get(t, s, portalID)
	hold := wire.HoldAnswers(func(command []string) bool { return strings.EqualFold(command[0], "hgetall") })
	put(t, operator, portalID, tokens.AccessToken, "2")
	testkit.Eventually(t, "a call waits for the record, and not for long", func() bool {
		began := time.Now()
		c := get(t, s, portalID)
		took := time.Since(began)
		if c.Secret.Reveal() != "1" || took > 5*time.Second {
			t.Fatalf("%q is served after %v", c.Secret.Reveal(), took)
		}
		return took >= 100*time.Millisecond
	})
	hold.Release()
	testkit.Eventually(t, "the change is in force", func() bool { return get(t, s, portalID).Secret.Reveal() == "2" })
}

// A user with the right to publish cannot make a process read from Redis for each message.
func TestMessagesOfANewEpochCauseAFewReadsASecondAtMost(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := dial(t, server)
	newSource(t, newHub(t), tokens.Options{Redis: dial(t, server)})
	listening(t, client, 1)
	event := eventsOf(t, client)
	asked := func() int64 { return commands(t, client, "get") + commands(t, client, "evalsha") }
	before, began := asked(), time.Now()
	for range 3000 {
		if err := client.Publish(t.Context(), event, "epoch").Err(); err != nil {
			t.Fatal(err)
		}
	}
	most := 10 + int64(15*time.Since(began).Seconds())
	if n := asked() - before; n > most {
		t.Errorf("Redis was asked %d times, want at most %d", n, most)
	}
}

// commands returns the number of calls of a command that Redis has counted.
func commands(t *testing.T, client redis.UniversalClient, name string) (calls int64) {
	t.Helper()
	info := client.Info(t.Context(), "commandstats").Val()
	_, line, found := strings.Cut(info, "cmdstat_"+name+":calls=")
	if found {
		_, _ = fmt.Sscan(line[:strings.IndexByte(line, ',')], &calls)
	}
	return calls
}
