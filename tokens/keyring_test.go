package tokens_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/redistest"
	"hubspot-auth-proxy/tokens/testkit"
)

func TestKeysAreComparedWithThoseOfEachRunningProxy(t *testing.T) {
	onEachRedis(t, comparesKeys)
}

// comparesKeys checks that one of two proxies with different keys is found, whichever is named.
func comparesKeys(t *testing.T, connect connector) {
	hub, a, b := newHub(t), newKey(t, "a"), newKey(t, "b")
	first := newSource(t, hub, tokens.Options{Redis: connect(t), Keys: ring(t, a)})
	second := newSource(t, hub, tokens.Options{Redis: connect(t), Keys: ring(t, b)})
	neither := newSource(t, hub, tokens.Options{Redis: connect(t)})
	// lacks reports whether a proxy is noted that has only the key other.
	lacks := func(own *tokens.Source, other string) func() bool {
		return func() bool {
			used, err := own.CheckKeys(t.Context())
			failed, is := errors.AsType[*tokens.KeyError](err)
			return used && is && slices.Equal(failed.Proxy, []string{other})
		}
	}

	if used, err := first.CheckKeys(t.Context()); used || err != nil {
		t.Errorf("without a proxy: %v, %v", used, err)
	}
	first.NoteKeys()
	testkit.Eventually(t, "the first proxy is noted", lacks(second, "a"))
	if used, err := first.CheckKeys(t.Context()); !used || err != nil {
		t.Errorf("with the proxy's own key: %v, %v", used, err)
	}
	if !lacks(neither, "a")() {
		t.Error("unsealed secrets are not refused")
	}
	second.NoteKeys()
	testkit.Eventually(t, "the second proxy is noted", lacks(first, "b"))
	if !lacks(second, "a")() {
		t.Error("the second proxy's note has replaced the first one's")
	}
	if err := first.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if used, err := second.CheckKeys(t.Context()); !used || err != nil {
		t.Errorf("when the other proxy has stopped: %v, %v", used, err)
	}
}

func TestTheNoteOfAKilledProxyExpires(t *testing.T) {
	onEachRedis(t, func(t *testing.T, connect connector) {
		s := newSource(t, newHub(t), tokens.Options{Redis: connect(t)})
		s.NoteKeys()
		client := redistest.Admin(t, connect(t))
		var keys []string
		testkit.Eventually(t, "the proxy is noted", func() bool {
			keys = client.Keys(t.Context(), "hubspot:keyring:*").Val()
			return len(keys) == 1
		})
		if left := client.PTTL(t.Context(), keys[0]).Val(); left <= 0 || left > time.Minute {
			t.Errorf("the note expires in %v", left)
		}
	})
}
