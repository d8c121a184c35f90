package config_test

import (
	"strings"
	"testing"

	"hubspot-auth-proxy/config"
)

func TestARedirectURLThatIsProbablyWrongIsAWarning(t *testing.T) {
	const (
		path   = "another path than /callback"
		port   = "the port of LISTEN_ADDR"
		scopes = "HUBSPOT_SCOPES is not set"
	)
	for environ, want := range map[string][]string{
		"HUBSPOT_REDIRECT_URL=https://proxy.example.com/callback HUBSPOT_SCOPES=oauth":                        nil,
		"HUBSPOT_REDIRECT_URL=https://proxy.example.com/hubspot/callback HUBSPOT_SCOPES=oauth":                {path},
		"HUBSPOT_REDIRECT_URL=https://proxy.example.com HUBSPOT_SCOPES=oauth":                                 {path},
		"LISTEN_ADDR=:8443 HUBSPOT_REDIRECT_URL=https://proxy.example.com:8443/callback HUBSPOT_SCOPES=oauth": {port},
		"LISTEN_ADDR=:443 HUBSPOT_REDIRECT_URL=https://proxy.example.com/callback HUBSPOT_SCOPES=oauth":       nil, // usually another server
		"LISTEN_ADDR=:8080 HUBSPOT_REDIRECT_URL=http://localhost:8080/foo":                                    {path, port, scopes},
		"HUBSPOT_REDIRECT_URL=http://localhost:8081/callback":                                                 {scopes},
		"HUBSPOT_REDIRECT_URL=https://proxy.example.com/callback HUBSPOT_MARKETPLACE_INSTALL=true":            nil,
		"HUBSPOT_REDIRECT_URL=http://localhost:8080/callback HUBSPOT_SCOPES=oauth":                            {port},
		"HUBSPOT_REDIRECT_URL=http://127.0.0.1:8081/foo HUBSPOT_SCOPES=oauth":                                 {path},
		"": nil,
	} {
		settings, err := config.Load(append(strings.Fields(environ), "HUBSPOT_CLIENT_ID=a", "HUBSPOT_CLIENT_SECRET=b"))
		if err != nil {
			t.Errorf("%s: %v", environ, err)
			continue
		}
		got := settings.ConnectWarnings()
		if len(got) != len(want) {
			t.Errorf("%s: %q, want %q", environ, got, want)
			continue
		}
		for i := range want {
			if !strings.Contains(got[i], want[i]) {
				t.Errorf("%s: %q, want %q", environ, got[i], want[i])
			}
		}
	}
}
