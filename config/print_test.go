package config_test

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hubspot-auth-proxy/config"
)

// derived are defaults that depend on the machine. A value that is set has precedence.
var derived = map[string]string{"MAX_CONNECTIONS": "50", "MAX_REQUESTS": "50"}

const canary = "canary-5ecre7"

var secrets = []string{"REDIS_URL", "HUBSPOT_CLIENT_SECRET", "HUBSPOT_ACCESS_TOKEN", "HUBSPOT_API_KEY", "HUBSPOT_REFRESH_TOKEN", "ENCRYPTION_KEYS", "ADMIN_PASSWORD", "NOTIFY_URL"}

func TestPrintShowsEachSettingAndWhereItCameFrom(t *testing.T) {
	key := write(t, "key", canary)
	got := output(t, "HUBSPOT_API_KEY_FILE="+key, "REDIS_URL=redis://:"+canary+"@h", "LISTEN_ADDR=127.0.0.1:8080",
		"UPSTREAM_URL=http://localhost:1/", "MAX_REQUESTS=7", "SERVE_PORTALS=1, 2", "ALLOW_ANONYMOUS=true", "HUBSPOT_PORTAL_ID=1",
		"ENCRYPTION_KEYS=k1:"+strings.Repeat("A", 43)+"=", "ADMIN_PASSWORD="+canary, "NOTIFY_URL=https://hooks.example.com/"+canary, "HUBSPOT_CLIENT_ID=a", "HUBSPOT_CLIENT_SECRET="+canary,
		"HUBSPOT_REDIRECT_URL=https://h/callback", "HUBSPOT_SCOPES=oauth  tickets", "SEED_FILE="+key)
	want := `
NAME VALUE SOURCE
LISTEN_ADDR 127.0.0.1:8080 environment
ADMIN_ADDR 127.0.0.1:8081 default
TLS_CERT_FILE unset
TLS_KEY_FILE unset
TLS_CLIENT_CA_FILE unset
INTERCEPT_CA_CERT_FILE unset
INTERCEPT_CA_KEY_FILE unset
UPSTREAM_URL http://localhost:1 environment
UPSTREAM_TIMEOUT 2m0s default
UPSTREAM_HTTP2 false default
RETRY_BODY_LIMIT 1048576 default
RETRY_MEMORY 33554432 default
RATE_LIMIT_WAIT 0s default
MAX_CONNECTIONS 50 default
MAX_REQUESTS 7 environment
SHUTDOWN_DELAY 0s default
SHUTDOWN_TIMEOUT 20s default
REDIS_URL [redacted] environment
STATE_FILE unset
REDIS_TLS_CERT_FILE unset
REDIS_TLS_KEY_FILE unset
REDIS_TLS_CA_FILE unset
REDIS_PREFIX hubspot: default
ENCRYPTION_KEYS [redacted] environment
HUBSPOT_CLIENT_ID a environment
HUBSPOT_CLIENT_SECRET [redacted] environment
HUBSPOT_REDIRECT_URL https://h/callback environment
HUBSPOT_SCOPES oauth tickets environment
HUBSPOT_OPTIONAL_SCOPES unset
HUBSPOT_MARKETPLACE_INSTALL false default
HUBSPOT_AUTHORIZE_URL https://app.hubspot.com/oauth/authorize default
HUBSPOT_TOKEN_URL http://localhost:1/oauth/2026-03/token default
REFRESH_AHEAD 5m0s default
HUBSPOT_PORTAL_ID 1 environment
HUBSPOT_ACCESS_TOKEN unset
HUBSPOT_API_KEY [redacted] file ` + key + `
HUBSPOT_REFRESH_TOKEN unset
SEED_FILE ` + key + ` environment
DEFAULT_PORTAL unset
SERVE_PORTALS 1,2 environment
PORTAL_DOMAIN unset
ALLOWED_HOSTS unset
ALLOW_ANONYMOUS true environment
OAUTH_WITHOUT_KEY true default
ADMIN_PASSWORD [redacted] environment
NOTIFY_URL [redacted] environment
LOG_LEVEL info default
LOG_FORMAT unset
ACCESS_LOG true default
`
	if diff := cmp.Diff(strings.TrimPrefix(want, "\n"), regexp.MustCompile(` +`).ReplaceAllString(got, " ")); diff != "" {
		t.Error(diff)
	}
}

func TestPrintKeepsEachSettingOnItsLine(t *testing.T) {
	path := write(t, "key\tnew\nline", "k")
	if out := output(t, "HUBSPOT_API_KEY_FILE="+path); !strings.Contains(out, `key\tnew\nline"`) {
		t.Error(out)
	}
}

func TestPrintReturnsTheErrorOfItsWriter(t *testing.T) {
	if err := (config.Config{}).Print(broken{}, nil); !errors.Is(err, errBroken) {
		t.Errorf("error is %v", err)
	}
}

func TestNoSecretIsPrintedWhateverIsWrong(t *testing.T) {
	spoilt := []string{canary, canary + "\n", " " + canary, canary + "\x00", "redis://:" + canary + "@h", "redis://:" + canary + "@h:x", "redis://:" + canary + "%zz@h", "a b" + canary + "://h", "http://u:" + canary + "@h/"}
	for _, name := range secrets {
		for _, value := range spoilt {
			file := write(t, "secret", value)
			noCanary(t, name+"="+value)
			noCanary(t, name+"_FILE="+file)
			noCanary(t, name+"_FILE="+value) // the secret in place of its path
			noCanary(t, name+"="+value, name+"_FILE="+file)
			noCanary(t, name+"="+value, "HUBSPOT_PORTAL_ID=62515", "HUBSPOT_CLIENT_ID=a", "LOG_LEVEL=x")
		}
	}
	for _, name := range []string{"UPSTREAM_URL", "HUBSPOT_TOKEN_URL", "HUBSPOT_REDIRECT_URL", "HUBSPOT_AUTHORIZE_URL"} {
		noCanary(t, name+"=https://u:"+canary+"@h")
		noCanary(t, name+"=https://u:"+canary+"@h:x")
	}
	noCanary(t, "SEED_FILE={portals: [{access_token: "+canary+"}]}")
	noCanary(t, "ENCRYPTION_KEYS=k1:"+canary+",k2:"+canary)
	noCanary(t, "TLS_KEY_FILE=-----BEGIN PRIVATE KEY-----\n"+canary)
}

func FuzzNoPartOfTheRedisURLIsPrinted(f *testing.F) {
	f.Add("redis://:", "@localhost:6379/0")
	f.Add("rediss://user:", "%zz@h")
	f.Add("redis://h:1/", "\n")
	f.Add("unix:///", "")
	f.Add("", "://h")
	f.Fuzz(func(t *testing.T, before, after string) {
		noCanary(t, "REDIS_URL="+before+canary+after)
	})
}

// noCanary loads and prints the settings of environ. The test fails if the table or the
// faults show the canary, or if a fault is not one line.
func noCanary(t *testing.T, environ ...string) {
	t.Helper()
	c, err := config.Load(environ)
	var out strings.Builder
	if printing := c.Print(&out, derived); printing != nil {
		t.Fatal(printing)
	}
	if faults, ok := errors.AsType[config.Faults](err); ok {
		if lines := strings.Count(err.Error(), "\n") + 1; lines != len(faults) {
			t.Errorf("%q: %d faults on %d lines", environ, len(faults), lines)
		}
		out.WriteString(err.Error())
	}
	if strings.Contains(strings.ToLower(out.String()), canary) {
		t.Errorf("%q shows the secret:\n%s", environ, out.String())
	}
}

// output returns the table of the settings of environ.
func output(t *testing.T, environ ...string) string {
	t.Helper()
	c, err := config.Load(environ)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := c.Print(&out, derived); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

var errBroken = errors.New("broken pipe")

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errBroken }
