package clients_test

import (
	"reflect"
	"strings"
	"testing"

	"go.uber.org/zap"

	"hubspot-auth-proxy/proxy/clients"
	"hubspot-auth-proxy/tokens/secret"
	"hubspot-auth-proxy/tokens/store"
)

// What a process holds of a client is made without its key: so nothing there
// can be compared with a guessed one, but the hashes of both. These differ as
// much for a guess that is nearly right as for any other.
func TestAClientIsFoundByTheHashOfItsKeyAndHoldsNoneOfIt(t *testing.T) {
	client, key := newClient("a", "1")
	redis, end := store.Embedded()
	t.Cleanup(end)
	set, _ := newSet(t, redis)
	set.Seed([]clients.Client{client})
	if !knows(set, key) {
		t.Fatal("its key is not known")
	}
	for field := range reflect.TypeFor[clients.Client]().Fields() {
		if field.Type == reflect.TypeFor[secret.Text]() {
			t.Errorf("a client holds a secret: %s", field.Name)
		}
	}
	for _, held := range set.All() {
		if held.KeySHA256 != clients.Hash(key) || strings.Contains(held.KeySHA256+held.Name, key.Reveal()[4:12]) {
			t.Errorf("of the key is held %+v", held)
		}
	}
	for _, guess := range guesses(key.Reveal()) {
		if knows(set, secret.New(guess)) {
			t.Errorf("%q is taken for %q", guess, key.Reveal())
		}
	}
	if knows(set, secret.New(client.KeySHA256)) {
		t.Error("the hash itself is a key")
	}
}

// guesses are keys of the same length that are wrong from the first, the
// middle and the last character on, and others.
func guesses(key string) map[string]string {
	wrongAt := func(i int) string {
		changed := []byte(key)
		changed[i] ^= 1
		return string(changed)
	}
	return map[string]string{
		"wrong at its start": wrongAt(4), "wrong in its middle": wrongAt(len(key) / 2), "wrong at its end": wrongAt(len(key) - 1),
		"cut": key[:len(key)-1], "longer": key + "A", "in capitals": strings.ToUpper(key), "nothing": "",
	}
}

// BenchmarkFind is for comparing how long it takes to refuse a key of which
// much is right, and one of which nothing is.
func BenchmarkFind(b *testing.B) {
	redis, end := store.Embedded()
	defer end()
	set := clients.NewSet(storeOf(redis), zap.NewNop())
	defer set.Close()
	client, key := newClient("a", "1")
	set.Seed([]clients.Client{client})
	for name, guess := range guesses(key.Reveal()) {
		b.Run(name, func(b *testing.B) {
			text := secret.New(guess)
			for b.Loop() {
				_ = set.Find(text)
			}
		})
	}
	b.Run("right", func(b *testing.B) {
		for b.Loop() {
			_ = set.Find(key)
		}
	})
}
