package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/testkit"
)

// A webhook is a server that receives notifications.
type webhook struct {
	*httptest.Server
	mu    sync.Mutex
	got   []tokens.GrantChange
	texts strings.Builder // everything that it received
}

// newWebhook starts a webhook that answers after hold has returned.
func newWebhook(t *testing.T, hold func(*http.Request)) *webhook {
	t.Helper()
	w := &webhook{}
	w.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var change tokens.GrantChange
		_ = json.Unmarshal(body, &change)
		w.mu.Lock()
		w.got = append(w.got, change)
		w.texts.Write(body)
		_ = r.Header.Write(&w.texts)
		w.mu.Unlock()
		hold(r)
	}))
	t.Cleanup(w.Close)
	return w
}

// webhookSecret is the path of the webhook's URL.
const webhookSecret = "/T0/B0/" + hubspottest.Canary

func (w *webhook) address() string { return w.URL + webhookSecret }

func (w *webhook) changes() []tokens.GrantChange {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.got
}

// states returns the states of portal 62515, in the order of the notifications.
func (w *webhook) states() string {
	var states []string
	for _, change := range w.changes() {
		states = append(states, change.Portal+" "+string(change.State)+" "+change.Code)
	}
	return strings.Join(states, ", ")
}

// endGrant makes HubSpot end the grant of portal 62515, and waits until each process
// has noticed.
func (s *stage) endGrant(processes ...*process) {
	s.t.Helper()
	s.hub.Disconnect("62515")
	s.hub.Expire("62515")
	for _, p := range processes {
		testkit.Eventually(s.t, "the grant has ended", func() bool { return p.portal("62515", "").category == "PORTAL_REAUTHORIZATION_REQUIRED" })
	}
}

func TestTheWebhookIsNotifiedOnceOfEachChangeOfAGrant(t *testing.T) {
	t.Parallel()
	hook := newWebhook(t, func(*http.Request) {})
	s := newStage(t)
	setting := "NOTIFY_URL=" + hook.address()
	a, b := s.launch(setting), s.launch(setting)
	environ := []string{
		"UPSTREAM_URL=" + s.hub.URL, "HUBSPOT_CLIENT_ID=" + hubspottest.ClientID, "HUBSPOT_CLIENT_SECRET=" + hubspottest.ClientSecret,
		"REDIS_URL=" + s.redis.URL(), setting,
	}
	setPortal := func() {
		t.Helper()
		var printed testkit.Output
		err := run(t.Context(), []string{"portal", "set", "62515", "refresh_token"}, environ, strings.NewReader(s.hub.Connect("62515")), &printed, &printed)
		if err != nil || strings.Contains(printed.String(), hubspottest.Canary) {
			t.Fatalf("portal set: %v\n%s", err, &printed)
		}
	}
	setPortal()
	for _, p := range []*process{a, b} {
		if r := p.portal("62515", ""); !r.served("62515") {
			t.Fatal(r)
		}
	}
	s.endGrant(a, b)
	const want = "62515 ended BAD_REFRESH_TOKEN"
	testkit.Eventually(t, "the end is notified", func() bool { return hook.states() == want })
	setPortal() // a command sends its notification before it exits
	if got := hook.states(); got != want+", 62515 active " {
		t.Errorf("notified of %q", got)
	}
	for _, p := range []*process{a, b} {
		wantNoSecret(t, p.end())
	}
	if n := len(hook.changes()); n != 2 {
		t.Errorf("%d notifications", n)
	}
	for _, change := range hook.changes() {
		if age := time.Since(change.At); age < -time.Minute || age > time.Minute {
			t.Errorf("at %v", change.At)
		}
	}
	wantNoSecret(t, hook.texts.String())
	var printed testkit.Output
	if err := run(t.Context(), []string{"config"}, environ, nil, &printed, &printed); err != nil || strings.Contains(printed.String(), webhookSecret) {
		t.Errorf("config: %v\n%s", err, &printed)
	}
	for _, wrong := range []string{"http://hooks.example.com" + webhookSecret, "hooks.example.com" + webhookSecret, "https://%zz" + webhookSecret, "https://h" + webhookSecret + "#x"} {
		err := run(t.Context(), []string{"config"}, []string{"NOTIFY_URL=" + wrong}, nil, io.Discard, io.Discard)
		if err == nil || !strings.Contains(err.Error(), "NOTIFY_URL") || strings.Contains(err.Error(), webhookSecret) {
			t.Errorf("%q: %v", wrong, err)
		}
	}
}

func TestAWebhookThatHangsDelaysNeitherRequestsNorTheShutdown(t *testing.T) {
	t.Parallel()
	hook := newWebhook(t, func(r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-time.After(time.Minute):
		}
	})
	s := newStage(t)
	admin := freePort(t)
	file := t.TempDir() + "/url"
	if err := os.WriteFile(file, []byte(hook.address()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := s.launch("NOTIFY_URL_FILE="+file, "ADMIN_ADDR="+admin, "SHUTDOWN_TIMEOUT=1s", "HUBSPOT_PORTAL_ID=62515", "HUBSPOT_REFRESH_TOKEN="+s.hub.Connect("62515"))
	if r := p.portal("62515", ""); !r.served("62515") {
		t.Fatal(r)
	}
	s.endGrant(p)
	testkit.Eventually(t, "the webhook is notified", func() bool { return len(hook.changes()) == 1 })
	began := time.Now()
	if r := p.portal("62515", ""); r.category != "PORTAL_REAUTHORIZATION_REQUIRED" || time.Since(began) > 5*time.Second {
		t.Errorf("after %v: %v", time.Since(began), r)
	}
	_, metrics := scrape(t, admin)
	began = time.Now()
	text := p.end()
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the shutdown took %v", took)
	}
	wantNoSecret(t, text+metrics)
	if !strings.Contains(text, `"the address in NOTIFY_URL did not take a notification","portal":"62515","state":"ended"`) ||
		strings.Contains(text, strings.TrimPrefix(hook.URL, "http://")) {
		t.Errorf("printed %s", text)
	}
}
