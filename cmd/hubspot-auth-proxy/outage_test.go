package main

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/redistest"
	"hubspot-auth-proxy/tokens/testkit"
)

func TestReadinessThroughARedisOutage(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t, redistest.Persist())
	hub := hubspottest.NewServer()
	defer hub.Close()
	settings := append(oauth(hub), "REDIS_URL="+redis.URL())
	serves := func(r *replica) bool {
		status, _ := get(t, "http://"+r.listen+"/crm/v3/objects/contacts")
		return status == http.StatusOK
	}
	says := func(r *replica, want int, part string) bool {
		status, body := get(t, "http://"+r.admin+"/readyz")
		return status == want && strings.Contains(body, part)
	}

	old := startReplica(t, settings)
	old.address()
	if !serves(old) || !says(old, 200, `"redis":"answers"`) {
		t.Fatal("the portal is not served before the outage")
	}
	redis.Kill()
	if !serves(old) {
		t.Error("a portal that was known is not served any more")
	}
	hub.Expire("62515")
	if !serves(old) {
		t.Error("a portal that was known is not renewed any more")
	}
	testkit.Eventually(t, "readyz reports that Redis is unreachable, and is 200", func() bool { return says(old, 200, `"redis":"does not answer"`) })
	// A process that has never reached Redis has no credentials.
	fresh := startReplica(t, settings)
	fresh.until("waits for Redis")
	if !says(fresh, 503, `"redis":"awaited"`) {
		t.Error("a new process is ready without Redis")
	}

	redis.Restart()
	testkit.Eventually(t, "the new process is ready", func() bool { return says(fresh, 200, `"redis":"answers"`) })
	if !serves(fresh) {
		t.Error("the new process does not serve")
	}
	testkit.Eventually(t, "the old one sees Redis again", func() bool { return says(old, 200, `"redis":"answers"`) })
}

func TestATokenThatIsRenewedDuringTheShutdownIsStored(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		away, back func(*redistest.Server)
	}{
		"Redis hangs":  {(*redistest.Server).Pause, (*redistest.Server).Resume},
		"Redis is off": {(*redistest.Server).Kill, (*redistest.Server).Restart},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			redis := redistest.Start(t, redistest.Persist())
			hub := hubspottest.NewServer()
			defer hub.Close()
			rotating := hubspottest.TokenBehaviour{Rotate: true}
			hub.SetToken(rotating)
			settings := append(oauth(hub), "REDIS_URL="+redis.URL())
			p := startReplica(t, settings)
			url := "http://" + p.address() + "/crm/v3/objects/contacts"
			if status, body := get(t, url); status != http.StatusOK {
				t.Fatal(status, body)
			}

			// A renewal is under way, and HubSpot has invalidated the old refresh token, ...
			hanging := rotating
			hanging.Hang = true
			hub.SetToken(hanging)
			hub.Expire("62515")
			answered := make(chan int, 1)
			go func() {
				status, _ := get(t, url)
				answered <- status
			}()
			if err := hub.Until(t.Context(), func() bool { return hub.TokenCalls("62515") == 2 }); err != nil {
				t.Fatal(err)
			}
			// ... when Redis becomes unreachable and the process gets SIGTERM.
			tt.away(redis)
			p.terminate()
			testkit.Eventually(t, "connections are refused", func() bool { return refuses(p.listen) })
			hub.SetToken(rotating)
			<-answered
			// The process waits until Redis stores the token.
			testkit.Eventually(t, "the admin listener is closed", func() bool { return refuses(p.admin) })
			throughout(t, 2*time.Second, "the process waits", func() bool { return !ended(p) })
			tt.back(redis)
			if status := p.exit(); status != 0 || strings.Contains(p.stderr.String(), "is lost") {
				t.Errorf("exit status %d\n%s", status, p.stderr.String())
			}

			// The next process uses the stored token.
			next := "http://" + launch(t, "serve", settings...).address() + "/crm/v3/objects/contacts"
			for _, change := range []func(){func() {}, func() { hub.Expire("62515") }} {
				change()
				if status, body := get(t, next); status != http.StatusOK {
					t.Errorf("what was renewed is not what was stored: %d %s", status, body)
				}
			}
		})
	}
}

// ended reports whether the process has ended.
func ended(r *replica) bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}
