package config_test

import (
	"os"
	"strings"
	"testing"

	"hubspot-auth-proxy/config"
)

// A file for docker run --env-file is not read by a shell, so quotes stay in the value.
func TestACredentialInQuotesIsAFault(t *testing.T) {
	for _, value := range []string{`"pat-na1-canary"`, `'pat-na1-canary'`} {
		_, err := config.Load([]string{"HUBSPOT_ACCESS_TOKEN=" + value})
		if err == nil || !strings.Contains(err.Error(), "HUBSPOT_ACCESS_TOKEN: is in quotes") || strings.Contains(err.Error(), "canary") {
			t.Errorf("%v", err)
		}
	}
	if _, err := config.Load([]string{`HUBSPOT_ACCESS_TOKEN="`}); err != nil {
		t.Error(err)
	}
}

func TestAnEmptyFileWhosePathIsNotShownIsNamedOnce(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("token", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := config.Load([]string{"HUBSPOT_ACCESS_TOKEN_FILE=token"})
	if err == nil || !strings.Contains(err.Error(), ": the file (path not shown") {
		t.Errorf("%v", err)
	}
}
