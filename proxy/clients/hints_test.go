package clients_test

import (
	"flag"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"hubspot-auth-proxy/proxy/clients"
	"hubspot-auth-proxy/tokens/redistest"
	"hubspot-auth-proxy/tokens/secret"
	"hubspot-auth-proxy/tokens/store"
	"hubspot-auth-proxy/tokens/testkit"
)

var floodFlag = flag.Duration("flood", 2*time.Second, "how long messages are published at a high rate")

func TestMessagesChangeNoClient(t *testing.T) {
	onEachRedis(t, func(t *testing.T, connect func() redis.UniversalClient) {
		client := connect()
		store := storeOf(client)
		kept, gone := add(t, store, "kept", "1"), add(t, store, "gone", "*")
		remove(t, store, "gone")
		s, logs := newSet(t, connect())
		reload(t, s)
		before := client.HGetAll(t.Context(), prefix+"clients").Val()
		reads := &commands{}
		client.AddHook(reads)

		channel := prefix + "client-events"
		channels := []string{channel, channel + ":" + client.Get(t.Context(), prefix+"epoch").Val()}
		sayings := []string{"", "0", "-1", "1", "9007199254740992", "99999999999999999999999", "changed", "epoch", "\x00\r\n", strings.Repeat("x", 1<<16), before["version"]}
		dice := rand.New(rand.NewPCG(11, 2))
		began, sent := time.Now(), 0
		for ; time.Since(began) < *floodFlag; sent++ {
			if err := client.Publish(t.Context(), channels[dice.IntN(2)], sayings[dice.IntN(len(sayings))]).Err(); err != nil {
				t.Fatal(err)
			}
			if !knows(s, kept) || knows(s, gone) {
				t.Fatal("other clients are known")
			}
			if early := time.Duration(sent)*time.Millisecond - time.Since(began); early > 0 {
				<-time.After(early)
			}
		}
		reload(t, s)
		if diff := cmp.Diff(before, client.HGetAll(t.Context(), prefix+"clients").Val()); diff != "" {
			t.Errorf("what is stored has changed, -before +after:\n%s", diff)
		}
		if lines := logs.Len(); lines > 0 {
			t.Errorf("%d lines are logged", lines)
		}
		if least := int(floodFlag.Seconds() * 200); sent < least {
			t.Errorf("only %d messages were sent", sent)
		}
		later := add(t, store, "later", "1")
		testkit.Eventually(t, "a change arrives", func() bool { return knows(s, later) })
	})
}

func TestClientsOfDatabasesAndPrefixesOfOneServerDoNotAffectEachOther(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	open := func(database, prefix string) clients.Store {
		client, err := store.Open(secret.New(server.URL() + database))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = client.Close() })
		return clients.Store{Redis: client, Prefix: prefix}
	}
	production := open("/2", prefix)
	key := add(t, production, "billing", "1")
	s, _ := newSet(t, production.Redis)
	reload(t, s)
	for _, staging := range []clients.Store{open("/3", prefix), open("/2", prefix+"client-events:")} {
		for range 20 {
			other := add(t, staging, "billing", "2")
			remove(t, staging, "billing")
			if !knows(s, key) || knows(s, other) {
				t.Fatal("production knows what staging has")
			}
		}
	}
	reload(t, s)
	if !knows(s, key) {
		t.Error("the client is cut off")
	}
	wantNames(t, production, "billing")
}
