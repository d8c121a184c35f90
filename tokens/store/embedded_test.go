package store_test

import (
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hubspot-auth-proxy/tokens/store"
	"hubspot-auth-proxy/tokens/store/statefile"
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

// Each of the processes that use the file before may use it for up to three seconds.
func TestAProcessWaitsWhileOthersUseTheStateFileInTurn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	synctest.Test(t, func(t *testing.T) {
		user := openState(t, path)
		opened := make(chan error)
		go func() {
			_, end, err := store.EmbeddedIn(t.Context(), path, statefile.Options{Holder: "waits"})
			if err == nil {
				err = end()
			}
			opened <- err
		}()
		for range 3 {
			time.Sleep(1999 * time.Millisecond) // not while the waiting process tries to open the file
			closeState(t, user)
			user = openState(t, path)
		}
		closeState(t, user)
		if err := <-opened; err != nil {
			t.Error(err)
		}
	})
}

func TestAProcessWaitsThreeSecondsForAnotherThatKeepsTheStateFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	synctest.Test(t, func(t *testing.T) {
		user := openState(t, path)
		defer closeState(t, user)
		began := time.Now()
		_, _, err := store.EmbeddedIn(t.Context(), path, statefile.Options{Holder: "waits"})
		if waited := time.Since(began).Round(100 * time.Millisecond); !statefile.IsInUse(err) || waited != 3*time.Second {
			t.Errorf("after %v: %v", waited, err)
		}
	})
}

func openState(t *testing.T, path string) *statefile.Server {
	t.Helper()
	server, err := statefile.Open(path, statefile.Options{Holder: "uses"})
	if err != nil {
		t.Fatal(err)
	}
	return server
}

func closeState(t *testing.T, server *statefile.Server) {
	t.Helper()
	if err := server.Close(); err != nil {
		t.Error(err)
	}
}
