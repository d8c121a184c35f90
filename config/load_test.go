package config_test

import (
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"hubspot-auth-proxy/config"
	"hubspot-auth-proxy/tokens/secret"
)

var ignoreSources = cmpopts.IgnoreUnexported(config.Config{})

func defaults() config.Config {
	return config.Config{
		ListenAddr:          "127.0.0.1:8080",
		AdminAddr:           "127.0.0.1:8081",
		UpstreamURL:         &url.URL{Scheme: "https", Host: "api.hubapi.com"},
		UpstreamTimeout:     120 * time.Second,
		RetryBodyLimit:      1 << 20,
		RetryMemory:         32 << 20,
		ShutdownTimeout:     20 * time.Second,
		RedisPrefix:         "hubspot:",
		HubSpotAuthorizeURL: &url.URL{Scheme: "https", Host: "app.hubspot.com", Path: "/oauth/authorize"},
		HubSpotTokenURL:     &url.URL{Scheme: "https", Host: "api.hubapi.com", Path: "/oauth/2026-03/token"},
		RefreshAhead:        5 * time.Minute,
		OAuthWithoutKey:     true,
		LogLevel:            "info",
		AccessLog:           "true",
	}
}

func TestUnsetAndEmptyVariablesHaveTheirDefaults(t *testing.T) {
	t.Setenv("LISTEN_ADDR", ":1") // Load does not read the process's own environment
	empty := []string{"=x", "nothing", "UNKNOWN=1"}
	for _, name := range variables(t) {
		empty = append(empty, name+"=", name+"_FILE=")
	}
	for name, environ := range map[string][]string{"nil": nil, "empty": empty} {
		t.Run(name, func(t *testing.T) {
			got, err := config.Load(environ)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(defaults(), got, ignoreSources); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestEverySettingIsRead(t *testing.T) {
	keys := "k1:" + strings.Repeat("A", 43) + "="
	pem := write(t, "pem", "not parsed")
	got, err := config.Load([]string{
		"LISTEN_ADDR=:0", "ADMIN_ADDR=[::1]:9", "TLS_CERT_FILE=" + pem, "TLS_KEY_FILE=" + pem, "TLS_CLIENT_CA_FILE=" + pem, "INTERCEPT_CA_CERT_FILE=" + pem, "INTERCEPT_CA_KEY_FILE=" + pem,
		"UPSTREAM_URL=http://[::1]:99/", "UPSTREAM_TIMEOUT=1s", "UPSTREAM_HTTP2=true", "RETRY_BODY_LIMIT=0", "RETRY_MEMORY=1", "MAX_CONNECTIONS=2", "MAX_REQUESTS=3", "RATE_LIMIT_WAIT=5s",
		"SHUTDOWN_DELAY=2s", "SHUTDOWN_TIMEOUT=0s", "REDIS_URL=rediss://u:p@h:1?master_name=m&addr=x:1", "REDIS_PREFIX=x",
		"HUBSPOT_CLIENT_ID=id", "HUBSPOT_CLIENT_SECRET=cs", "REFRESH_AHEAD=1m", "HUBSPOT_PORTAL_ID=62515",
		"HUBSPOT_REFRESH_TOKEN=rt", "DEFAULT_PORTAL=62515", "SERVE_PORTALS= 62515 ,1", "PORTAL_DOMAIN=HubSpot.example.com.", "ALLOWED_HOSTS=A.b. , c_d", "ALLOW_ANONYMOUS=false", "OAUTH_WITHOUT_KEY=false",
		"ENCRYPTION_KEYS=" + keys, "HUBSPOT_REDIRECT_URL=http://localhost:8081/callback?a=b", "HUBSPOT_SCOPES= oauth \t crm.objects.contacts.read\n",
		"HUBSPOT_OPTIONAL_SCOPES=tickets  e-commerce", "HUBSPOT_AUTHORIZE_URL=http://127.0.0.1:1/a", "SEED_FILE=" + pem, "ADMIN_PASSWORD=a passphrase ä",
		"LOG_LEVEL=warn", "LOG_FORMAT=console", "ACCESS_LOG=errors",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := config.Config{
		ListenAddr: ":0", AdminAddr: "[::1]:9", TLSCertFile: pem, TLSKeyFile: pem, TLSClientCAFile: pem, InterceptCACertFile: pem, InterceptCAKeyFile: pem,
		UpstreamURL: &url.URL{Scheme: "http", Host: "[::1]:99"}, UpstreamTimeout: time.Second, UpstreamHTTP2: true, RetryMemory: 1, MaxConnections: new(2), MaxRequests: new(3), RateLimitWait: 5 * time.Second,
		ShutdownDelay: 2 * time.Second, RedisURL: secret.New("rediss://u:p@h:1?master_name=m&addr=x:1"), RedisPrefix: "x",
		EncryptionKeys: secret.New(keys), SeedFile: pem, AdminPassword: secret.New("a passphrase ä"),
		HubSpotRedirectURL: &url.URL{Scheme: "http", Host: "localhost:8081", Path: "/callback", RawQuery: "a=b"},
		HubSpotScopes:      "oauth crm.objects.contacts.read", HubSpotOptionalScopes: "tickets e-commerce",
		HubSpotAuthorizeURL: &url.URL{Scheme: "http", Host: "127.0.0.1:1", Path: "/a"},
		HubSpotClientID:     "id", HubSpotClientSecret: secret.New("cs"),
		HubSpotTokenURL: &url.URL{Scheme: "http", Host: "[::1]:99", Path: "/oauth/2026-03/token"},
		RefreshAhead:    time.Minute, HubSpotPortalID: "62515", HubSpotRefreshToken: secret.New("rt"),
		DefaultPortal: "62515", ServePortals: []string{"62515", "1"}, PortalDomain: "hubspot.example.com", AllowedHosts: []string{"a.b", "c_d"}, AllowAnonymous: new(bool),
		LogLevel: "warn", LogFormat: "console", AccessLog: "errors",
	}
	if diff := cmp.Diff(want, got, ignoreSources); diff != "" {
		t.Error(diff)
	}
	if id := got.Keys().Current(); id != "k1" {
		t.Errorf("Keys() seals with %q, want k1", id)
	}
	if !defaults().Keys().IsZero() {
		t.Error("Keys() without ENCRYPTION_KEYS has keys")
	}
}

func TestSecretsAreReadFromFilesWithoutTheirLastLineBreak(t *testing.T) {
	for _, test := range []struct{ content, want string }{
		{"key", "key"}, {"key\n", "key"}, {"key\r\n", "key"},
	} {
		got, err := config.Load([]string{"HUBSPOT_API_KEY=", "HUBSPOT_API_KEY_FILE=" + write(t, "key", test.content)})
		if err != nil {
			t.Errorf("%q: %v", test.content, err)
		}
		if got.HubSpotAPIKey.Reveal() != test.want {
			t.Errorf("%q gives %q, want %q", test.content, got.HubSpotAPIKey.Reveal(), test.want)
		}
	}
}

func TestEverySecretHasAFile(t *testing.T) {
	for _, name := range secrets {
		_, err := config.Load([]string{name + "_FILE=/does/not/exist"})
		if faults, ok := errors.AsType[config.Faults](err); !ok || faults[0].Name != name+"_FILE" || !strings.Contains(faults[0].Problem, `"/does/not/exist"`) {
			t.Errorf("%s_FILE: %v", name, err)
		}
	}
}

func TestThePortalOfCallsThatNameNone(t *testing.T) {
	app := []string{"HUBSPOT_CLIENT_ID=a", "HUBSPOT_CLIENT_SECRET=b"}
	for _, test := range []struct {
		name, want string
		environ    []string
	}{
		{"none", "", nil},
		{"an app alone", "", app},
		{"DEFAULT_PORTAL", "1", []string{"DEFAULT_PORTAL=1"}},
		{"the environment's", "2", append(app, "HUBSPOT_PORTAL_ID=2", "HUBSPOT_REFRESH_TOKEN=r")},
		{"both, the same", "2", []string{"HUBSPOT_PORTAL_ID=2", "HUBSPOT_API_KEY=k", "DEFAULT_PORTAL=2"}},
		{"an access token without an id", "default", []string{"HUBSPOT_ACCESS_TOKEN=t"}},
		{"an API key without an id", "default", []string{"HUBSPOT_API_KEY=k"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := config.Load(test.environ)
			if err != nil {
				t.Fatal(err)
			}
			if got.Default() != test.want {
				t.Errorf("Default() = %q, want %q", got.Default(), test.want)
			}
		})
	}
}

// write writes a file into a folder of its own, and returns its path.
func write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// variables returns the names of all variables, in the order in which Print prints them.
func variables(t *testing.T) []string {
	t.Helper()
	var out strings.Builder
	if err := (config.Config{}).Print(&out, nil); err != nil {
		t.Fatal(err)
	}
	var names []string
	for line := range strings.Lines(out.String()) {
		names = append(names, strings.Fields(line)[0])
	}
	return names[1:]
}

func TestVariablesWhoseNamesAreNearlyThatOfASettingAreMisspelt(t *testing.T) {
	got := config.Misspelt([]string{
		"HUBSPOT_ACCES_TOKEN=x", "HUBSPOT_ACCESS_TOKEN_FIEL=x", "REDISURL=x", "LOG_LEVELS=", "STATE_FILE_=x", "XLISTEN_ADRR=x", "HUBSPOT_CLIENT_ID_FILE=x",
		"REDIS_URL=x", "REDIS_URL_FILE=x", "HUBSPOT_PORTAL=x", "REDIS_HOST=x", "LISTEN_PORT=x", "ACCESSLOGS2=x", "PATH=x", "A=", "=x",
	})
	want := map[string]string{
		"HUBSPOT_ACCES_TOKEN": "HUBSPOT_ACCESS_TOKEN", "HUBSPOT_ACCESS_TOKEN_FIEL": "HUBSPOT_ACCESS_TOKEN_FILE", "REDISURL": "REDIS_URL",
		"LOG_LEVELS": "LOG_LEVEL", "STATE_FILE_": "STATE_FILE", "XLISTEN_ADRR": "LISTEN_ADDR", "HUBSPOT_CLIENT_ID_FILE": "HUBSPOT_CLIENT_ID",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestASeedFileIsNotReadByLoad(t *testing.T) {
	large := write(t, "large", "")
	if err := os.Truncate(large, 4<<20+1); err != nil {
		t.Fatal(err)
	}
	if _, err := config.Load([]string{"SEED_FILE=" + large}); err != nil {
		t.Error(err)
	}
}
