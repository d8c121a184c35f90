package main

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/testkit"
)

func TestTheStartLogsWhatIsMisspeltAndThatNoPortalHasACredential(t *testing.T) {
	t.Parallel()
	p := launch(t, "serve", "HUBSPOT_ACCES_TOKEN="+hubspottest.Canary, "MAX_REQUEST=5", "MAX_CONNECTIONS_TOTAL=5")
	p.until("no portal has a credential.*HUBSPOT_ACCESS_TOKEN.*portal set")
	printed := p.end()
	for _, want := range []string{
		`"variable":"HUBSPOT_ACCES_TOKEN","setting":"HUBSPOT_ACCESS_TOKEN"`, `"variable":"MAX_REQUEST","setting":"MAX_REQUESTS"`, "no portal has a credential",
	} {
		if strings.Count(printed, want) != 1 {
			t.Errorf("%s is not in the log once:\n%s", want, printed)
		}
	}
	if strings.Contains(printed, "MAX_CONNECTIONS_TOTAL") {
		t.Errorf("MAX_CONNECTIONS_TOTAL is taken for a setting:\n%s", printed)
	}
	wantNoSecret(t, printed)
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
