package tokens

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// A KeyError means that the proxies which use the database do not use what this process stores, because
// they do not have the key that seals it, or because it is not sealed.
type KeyError struct {
	Own     string   // id of the key that seals; plain means that nothing is sealed
	Proxies []string // ids of the keys with which the proxies open secrets
}

// Error names the keys and says what to do.
func (e *KeyError) Error() string {
	problem := fmt.Sprintf("cannot open secrets that are sealed with key %q", e.Own)
	if e.Own == "plain" {
		problem = "do not use unsealed secrets"
	}
	have := "their ENCRYPTION_KEYS have " + strings.Join(e.Proxies, ", ")
	if slices.Equal(e.Proxies, []string{"plain"}) {
		have = "they have no key in ENCRYPTION_KEYS"
	}
	return fmt.Sprintf("the proxies %s (%s): set ENCRYPTION_KEYS here to the value that the proxies have, or start the proxies with the new value first", problem, have)
}

// CheckKeys compares this process's keys with those of the proxies that use the database. used reports
// whether a proxy has used the database at all. The error is a [*KeyError] if the proxies do not use
// what this process stores, or an error for which [IsRedisError] returns true.
func (s *Source) CheckKeys(ctx context.Context) (used bool, err error) {
	noted, err := s.store.NotedKeys(ctx)
	if err != nil || len(noted) == 0 {
		return false, err
	}
	if own := s.store.Keys().IDs()[0]; !slices.Contains(noted, own) {
		return true, &KeyError{Own: own, Proxies: noted}
	}
	return true, nil
}
