package store_test

import (
	"sync"
	"testing"

	"hubspot-auth-proxy/tokens/store"
)

// go-redis connects in a goroutine of its own, which may still be under way when the client is closed.
func TestAnEmbeddedRedisCanEndWhileItsClientConnects(t *testing.T) {
	t.Parallel()
	for range 200 {
		client, end := store.Embedded()
		var pinging sync.WaitGroup
		for range 4 {
			pinging.Go(func() { client.Ping(t.Context()) }) // may fail
		}
		end()
		pinging.Wait()
	}
}
