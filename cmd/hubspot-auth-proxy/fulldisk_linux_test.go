package main

import (
	"net/http"
	"testing"

	"golang.org/x/sys/unix"

	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/testkit"
)

// limitFiles sets how long the files of a process may become, in bytes. A longer write fails, as on
// a full disk.
func (p *process) limitFiles(t *testing.T, size uint64) {
	t.Helper()
	if err := unix.Prlimit(p.Process.Pid, unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: size, Max: unix.RLIM_INFINITY}, nil); err != nil {
		t.Fatal(err)
	}
}

func TestATokenThatIsRenewedWhileTheDiskIsFullIsServedAndStoredLater(t *testing.T) {
	t.Parallel()
	hub := hubspottest.NewServer()
	defer hub.Close()
	hub.SetToken(hubspottest.TokenBehaviour{Rotate: true})
	admin := freePort(t)
	settings := append(oauth(hub), "STATE_FILE="+stateFile(t), "ADMIN_ADDR="+admin)
	p := launch(t, "serve", settings...)
	url := "http://" + p.address() + "/portals/62515/crm/v3/objects/contacts"
	served := func() bool { status, _ := get(t, url); return status == http.StatusOK }
	unsaved := func() float64 { families, _ := scrape(t, admin); return value(families, "unsaved_portals") }
	testkit.Eventually(t, "the portal is served", served)

	p.limitFiles(t, 0)
	hub.Expire("62515")
	testkit.Eventually(t, "the renewed token is served while the disk is full", served)
	p.until("STATE_FILE cannot be written")
	if n := unsaved(); n != 1 {
		t.Errorf("%v unsaved portals", n)
	}
	calls := hub.TokenCallsTotal()
	p.limitFiles(t, unix.RLIM_INFINITY)
	testkit.Eventually(t, "the token is stored", func() bool { return unsaved() == 0 })
	_ = p.Process.Kill()
	p.exit()

	p = launch(t, "serve", settings...)
	url = "http://" + p.address() + "/portals/62515/crm/v3/objects/contacts"
	testkit.Eventually(t, "the portal is served after a kill", served)
	if n := hub.TokenCallsTotal() - calls; n != 0 {
		t.Errorf("%d more calls of the token endpoint: the renewed token was lost", n)
	}
}
