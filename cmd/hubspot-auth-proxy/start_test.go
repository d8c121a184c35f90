package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/redistest"
	"hubspot-auth-proxy/tokens/testkit"
)

func TestTheStartLogsWhatIsMisspeltAndThatNoPortalHasACredential(t *testing.T) {
	t.Parallel()
	p := launch(t, "serve", "HUBSPOT_ACCES_TOKEN="+hubspottest.Canary, "MAX_REQUEST=5", "MAX_CONNECTIONS_TOTAL=5")
	p.until("no portal has a credential, so calls are refused: set HUBSPOT_ACCESS_TOKEN, or HUBSPOT_PORTAL_ID and HUBSPOT_REFRESH_TOKEN, or SEED_FILE\"")
	printed := p.end()
	for _, want := range []string{
		`"variable":"HUBSPOT_ACCES_TOKEN","setting":"HUBSPOT_ACCESS_TOKEN"`, `"variable":"MAX_REQUEST","setting":"MAX_REQUESTS"`, "no portal has a credential",
	} {
		if strings.Count(printed, want) != 1 {
			t.Errorf("%s is not in the log once:\n%s", want, printed)
		}
	}
	if strings.Contains(printed, "have all portals") {
		t.Errorf("the log says that the settings have portals:\n%s", printed)
	}
	if strings.Contains(printed, "MAX_CONNECTIONS_TOTAL") {
		t.Errorf("MAX_CONNECTIONS_TOTAL is taken for a setting:\n%s", printed)
	}
	wantNoSecret(t, printed)
}

// Only remedies that work with the settings are named.
func TestTheStartSaysHowToConnectAPortal(t *testing.T) {
	t.Parallel()
	app := []string{"HUBSPOT_CLIENT_ID=" + hubspottest.ClientID, "HUBSPOT_CLIENT_SECRET=" + hubspottest.ClientSecret}
	connect := append(app, "HUBSPOT_REDIRECT_URL=http://localhost:8081/callback", "HUBSPOT_SCOPES=oauth")
	redis := "REDIS_URL=" + redistest.Start(t).URL()
	for want, settings := range map[string][]string{
		`or SEED_FILE, or use the command portal set"`:                                                {redis},
		`or HUBSPOT_PORTAL_ID and HUBSPOT_REFRESH_TOKEN, or SEED_FILE"`:                               app[:2:2],
		"or SEED_FILE, or connect a portal with the command portal link or at /connect of ADMIN_ADDR": connect[:4:4],
		"or SEED_FILE, or use the command portal set, or connect a portal ":                           append(connect[:4:4], redis),
	} {
		p := launch(t, "serve", settings...)
		p.until("no portal has a credential.* " + want)
		p.end()
	}
}

func TestTheStartSaysThatNoClientHasAKey(t *testing.T) {
	t.Parallel()
	redis := "REDIS_URL=" + redistest.Start(t).URL()
	for _, tt := range []struct{ settings, want string }{
		{"STATE_FILE=", "all calls get 401: put clients into SEED_FILE, or set REDIS_URL or STATE_FILE and make a client with the command client add; .*ALLOW_ANONYMOUS=true"},
		{redis, "all calls get 401: make a client with the command client add, or in SEED_FILE; "},
	} {
		p := launch(t, "serve", "HUBSPOT_ACCESS_TOKEN="+staticToken, "ALLOW_ANONYMOUS=false", tt.settings)
		p.until(tt.want)
		p.end()
	}
	if err := run(t.Context(), []string{"client", "add", "billing", "--portals", "*"}, []string{redis}, nil, io.Discard, io.Discard); err != nil {
		t.Fatal(err)
	}
	p := launch(t, "serve", "ALLOW_ANONYMOUS=false", redis)
	p.until("no portal has a credential")
	if printed := p.end(); strings.Contains(printed, "there is no client") {
		t.Error(printed)
	}
}

func TestAStaticTokenNeedsNoWarningAboutMemory(t *testing.T) {
	t.Parallel()
	p := launch(t, "serve", "HUBSPOT_ACCESS_TOKEN="+staticToken)
	p.address()
	printed := p.end()
	if strings.Contains(printed, "are lost") || strings.Contains(printed, "no portal has") || !strings.Contains(printed, "neither REDIS_URL nor STATE_FILE is set") {
		t.Error(printed)
	}
}

func TestTheLinesOfTheStartAreInTheLogAfterAKill(t *testing.T) {
	t.Parallel()
	admin := freePort(t)
	p := launch(t, "serve", "HUBSPOT_ACCESS_TOKEN="+staticToken, "ADMIN_ADDR="+admin)
	testkit.Eventually(t, "the proxy is ready", func() bool {
		answer, err := http.Get("http://" + admin + "/readyz")
		if err != nil {
			return false
		}
		defer answer.Body.Close()
		return answer.StatusCode == http.StatusOK
	})
	_ = p.Process.Kill()
	p.exit()
	if printed := p.stderr.String(); !strings.Contains(printed, "neither REDIS_URL nor STATE_FILE is set") {
		t.Errorf("the log has only %q", printed)
	}
}

func TestAProcessThatWaitsForAStateFileNamesTheProcessThatHasIt(t *testing.T) {
	t.Parallel()
	path := stateFile(t)
	first := launch(t, "serve", "STATE_FILE="+path)
	first.address()
	second := launch(t, "serve", "STATE_FILE="+path)
	second.until(fmt.Sprintf("waiting for STATE_FILE.*is in use by process %d ", first.Process.Pid))
	first.end()
	second.address()
	if printed := second.end(); strings.Count(printed, "waiting for STATE_FILE") != 1 {
		t.Errorf("printed %s", printed)
	}
}

func TestTheStartWarnsOfHostNamesThatHaveNoEffectOnLoopback(t *testing.T) {
	t.Parallel()
	p := launch(t, "serve", "ALLOWED_HOSTS=proxy.example.com", "PORTAL_DOMAIN=hs.example.com")
	p.until("calls below PORTAL_DOMAIN need a client key")
	if printed := p.end(); !strings.Contains(printed, "ALLOWED_HOSTS has no effect") {
		t.Errorf("no warning of ALLOWED_HOSTS:\n%s", printed)
	}
	p = launch(t, "serve", "PORTAL_DOMAIN=hs.localhost")
	p.until("clients need no client key")
	if printed := p.end(); strings.Contains(printed, "PORTAL_DOMAIN") {
		t.Errorf("a warning of a domain below localhost:\n%s", printed)
	}
}
