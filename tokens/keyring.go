package tokens

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"hubspot-auth-proxy/tokens/store"
)

// A KeyError means that a proxy which uses the database does not use what this process stores, because
// it does not have the key that seals it, or because it is not sealed.
type KeyError struct {
	Own   string   // id of the key that seals; plain means that nothing is sealed
	Proxy []string // ids of the keys with which the proxy opens secrets
}

// Error names the keys and says what to do.
func (e *KeyError) Error() string {
	problem := fmt.Sprintf("cannot open secrets that are sealed with key %q", e.Own)
	if e.Own == "plain" {
		problem = "does not use unsealed secrets"
	}
	has := "its ENCRYPTION_KEYS have " + strings.Join(e.Proxy, ", ")
	if slices.Equal(e.Proxy, []string{"plain"}) {
		has = "it has no key in ENCRYPTION_KEYS"
	}
	return fmt.Sprintf("a proxy %s (%s): set ENCRYPTION_KEYS here to the value that the proxies have, or start all proxies with the new value first", problem, has)
}

// NoteKeys notes in Redis which keys this process has, for [Source.CheckKeys], in the background,
// until the source is closed.
func (s *Source) NoteKeys() {
	s.loops.Go(func() {
		for s.service.Err() == nil {
			_ = s.store.NoteKeys(s.service) // repeated after the pause
			_ = s.sleep(store.NoteEvery)
		}
		if s.store.Answers() {
			_ = s.store.ForgetKeys(context.WithoutCancel(s.service)) // the note expires if this fails
		}
	})
}

// CheckKeys compares this process's keys with those of the proxies that use the database, which have
// called NoteKeys. used reports whether there is such a proxy. The error is a [*KeyError] if one of them
// does not use what this process stores, or an error for which [IsRedisError] returns true.
func (s *Source) CheckKeys(ctx context.Context) (used bool, err error) {
	notes, err := s.store.NotedKeys(ctx)
	if err != nil {
		return false, err
	}
	own := s.store.Keys().IDs()[0]
	for _, note := range notes {
		if !slices.Contains(note, own) {
			return true, &KeyError{Own: own, Proxy: note}
		}
	}
	return len(notes) > 0, nil
}
