package config_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hubspot-auth-proxy/config"
)

const noURL = "is not an absolute https URL with a host; give a URL such as https://api.hubapi.com"

func TestEachFaultSaysWhatIsWrongAndWhatToDo(t *testing.T) {
	dir := t.TempDir()
	pem, empty := write(t, "pem", "x"), write(t, "empty", "\n")
	const (
		addr      = " is not host:port; give an address such as 127.0.0.1:8080, [::1]:8080 or :8080"
		badURL    = "is not a URL; give a URL such as https://api.hubapi.com"
		user      = "has a user name or password; remove the part before the @"
		clear     = "is http to a host that is not loopback, which would send credentials unencrypted; use https"
		parts     = "UPSTREAM_URL: has a path, a query or a fragment; give scheme, host and port only, such as https://api.hubapi.com"
		unit      = " is not a duration; give a number with its unit, such as 30s or 5m"
		more      = " is not greater than zero; give a duration such as 30s or 5m"
		negative  = " is negative; give a duration of 0s or more"
		whole     = " is not a whole number, or is too large; give a number of bytes, such as 1048576"
		negBytes  = " is negative; give a number of bytes, or 0 to keep none"
		truth     = " is neither true nor false; give true or false"
		redis     = "REDIS_URL: is not a redis:// or rediss:// URL with a host, nor a unix:/// URL with a path (not shown, because it may contain a password); give a URL such as redis://localhost:6379/0, with special characters of the password percent-encoded"
		prefix    = " has a brace or white space; remove them: Redis Cluster distributes keys by the text in braces"
		character = "has a space, a line break or another character that no credential contains; copy the credential again, without anything around it"
		id        = " is not a portal id; give a number such as 62515"
		domain    = " is not a domain; give a domain without a port, such as hubspot.example.com, whose subdomains (62515.hubspot.example.com) resolve to this proxy"
		hosts     = " is not a host name; give host names without ports, separated by commas, such as hubspot.tools.svc.cluster.local"
		ids       = " is not a portal id; give ids separated by commas, such as 62515,62516"
		readable  = "; give the path of a file that this process may read"
		hidden    = "cannot read the file (path not shown, because it begins with neither / nor . and may be the secret itself): no such file or directory" + readable
		app       = "HUBSPOT_CLIENT_ID=a HUBSPOT_CLIENT_SECRET=b "
		keys      = "; give a list such as k1:BASE64,k2:BASE64, of keys that keys generate has printed"
		redirect  = "https://proxy.example.com/callback, exactly as in the HubSpot app's settings"
		fragment  = "has a fragment; remove the # and everything after it"
		password  = "ADMIN_PASSWORD: has a line break or another control character, or is not UTF-8; give a password that can be typed"
		short     = "ADMIN_PASSWORD: has fewer than 12 characters; give a long random password, such as openssl rand -base64 18 prints"
		skip      = "REDIS_URL: has skip_verify, which lets anyone on the network path read and change the traffic; remove it, and name the PEM file of the authority that signed Redis' certificate in REDIS_TLS_CA_FILE"
	)
	needs := func(name string) string {
		return "HUBSPOT_" + name + ": is not set, although required by HUBSPOT_REDIRECT_URL; set it too, or unset HUBSPOT_REDIRECT_URL"
	}
	for _, test := range []struct {
		environ string // variables, separated by spaces
		want    string // faults, a line each
	}{
		{"LISTEN_ADDR=8080", `LISTEN_ADDR: "8080"` + addr},
		{"ADMIN_ADDR=localhost", `ADMIN_ADDR: "localhost"` + addr},
		{"ADMIN_ADDR=:65536", `ADMIN_ADDR: ":65536"` + addr},
		{"ADMIN_ADDR=a/b:1", `ADMIN_ADDR: "a/b:1"` + addr},
		{"LISTEN_ADDR=" + strings.Repeat("x", 70), `LISTEN_ADDR: "` + strings.Repeat("x", 60) + `…"` + addr},

		{"LISTEN_ADDR=:9 ADMIN_ADDR=:9", `ADMIN_ADDR: ":9" is also LISTEN_ADDR; give the admin listener a port of its own`},

		{"TLS_CERT_FILE=" + pem, "TLS_KEY_FILE: is not set, although required by TLS_CERT_FILE; set it too, or unset TLS_CERT_FILE"},
		{"TLS_KEY_FILE=" + pem, "TLS_CERT_FILE: is not set, although required by TLS_KEY_FILE; set it too, or unset TLS_KEY_FILE"},
		{"INTERCEPT_CA_CERT_FILE=" + pem, "INTERCEPT_CA_KEY_FILE: is not set, although required by INTERCEPT_CA_CERT_FILE; set it too, or unset INTERCEPT_CA_CERT_FILE"},
		{"INTERCEPT_CA_KEY_FILE=" + pem, "INTERCEPT_CA_CERT_FILE: is not set, although required by INTERCEPT_CA_KEY_FILE; set it too, or unset INTERCEPT_CA_KEY_FILE"},
		{"TLS_CLIENT_CA_FILE=" + pem, "TLS_CERT_FILE: is not set, although required by TLS_CLIENT_CA_FILE; set it too, or unset TLS_CLIENT_CA_FILE\n" +
			"TLS_KEY_FILE: is not set, although required by TLS_CLIENT_CA_FILE; set it too, or unset TLS_CLIENT_CA_FILE"},
		{"TLS_CERT_FILE=" + pem + " TLS_KEY_FILE=/does/not/exist", `TLS_KEY_FILE: cannot read "/does/not/exist": no such file or directory` + readable},
		{"TLS_CERT_FILE=" + dir + "/none TLS_KEY_FILE=-----BEGIN", `TLS_CERT_FILE: cannot read ` + quoted(dir+"/none") + `: no such file or directory` + readable + "\nTLS_KEY_FILE: " + hidden},

		{"UPSTREAM_URL=api.hubapi.com", "UPSTREAM_URL: " + noURL},
		{"UPSTREAM_URL=ftp://h", "UPSTREAM_URL: " + noURL},
		{"UPSTREAM_URL=https://:443", "UPSTREAM_URL: " + noURL},
		{"UPSTREAM_URL=https://h:", "UPSTREAM_URL: " + noURL},
		{"UPSTREAM_URL=https://h:65536", "UPSTREAM_URL: " + noURL},
		{"UPSTREAM_URL=https://h:x", "UPSTREAM_URL: " + badURL},
		{"UPSTREAM_URL=https://h/crm", parts},
		{"UPSTREAM_URL=https://h//", parts},
		{"UPSTREAM_URL=https://h?", parts},
		{"UPSTREAM_URL=https://h?a=b", parts},
		{"UPSTREAM_URL=https://h#a", parts},
		{"UPSTREAM_URL=https://u:p@h", "UPSTREAM_URL: " + user},
		{"UPSTREAM_URL=http://api.hubapi.com", "UPSTREAM_URL: " + clear},
		{"UPSTREAM_URL=http://10.0.0.1", "UPSTREAM_URL: " + clear},
		{"UPSTREAM_URL=http://127.9.9.9:1", ""},
		{"UPSTREAM_URL=http://LocalHost:1", ""},
		{"HUBSPOT_TOKEN_URL=/oauth/v1/token", "HUBSPOT_TOKEN_URL: " + noURL},
		{"HUBSPOT_TOKEN_URL=http://h/oauth/v1/token", "HUBSPOT_TOKEN_URL: " + clear},
		{"HUBSPOT_TOKEN_URL=https://u@h/oauth/v1/token", "HUBSPOT_TOKEN_URL: " + user},
		{"HUBSPOT_TOKEN_URL=https://h/oauth/v1/token#x", "HUBSPOT_TOKEN_URL: has a fragment; remove the # and everything after it"},
		{"HUBSPOT_TOKEN_URL=https://h:x/", "HUBSPOT_TOKEN_URL: " + badURL},
		{"HUBSPOT_TOKEN_URL=http://127.0.0.1:1/oauth/v1/token", ""},

		{"UPSTREAM_TIMEOUT=120", `UPSTREAM_TIMEOUT: "120"` + unit},
		{"UPSTREAM_TIMEOUT=0", `UPSTREAM_TIMEOUT: "0s"` + more},
		{"REFRESH_AHEAD=-1s", `REFRESH_AHEAD: "-1s"` + more},
		{"REFRESH_AHEAD=soon", `REFRESH_AHEAD: "soon"` + unit},
		{"RATE_LIMIT_WAIT=-1s", `RATE_LIMIT_WAIT: "-1s"` + negative},
		{"SHUTDOWN_DELAY=-1s", `SHUTDOWN_DELAY: "-1s"` + negative},
		{"SHUTDOWN_TIMEOUT=-1ns", `SHUTDOWN_TIMEOUT: "-1ns"` + negative},
		{"RETRY_BODY_LIMIT=1MB", `RETRY_BODY_LIMIT: "1MB"` + whole},
		{"RETRY_MEMORY=9223372036854775808", `RETRY_MEMORY: "9223372036854775808"` + whole},
		{"RETRY_BODY_LIMIT=-1", `RETRY_BODY_LIMIT: "-1"` + negBytes},
		{"RETRY_MEMORY=-2", `RETRY_MEMORY: "-2"` + negBytes},
		{"MAX_CONNECTIONS=many", `MAX_CONNECTIONS: "many" is not a whole number, or is too large; give a number such as 1000`},
		{"MAX_REQUESTS=0", `MAX_REQUESTS: "0" is not greater than zero; give a number such as 1000, or unset it`},
		{"UPSTREAM_HTTP2=yes", `UPSTREAM_HTTP2: "yes"` + truth},
		{"ALLOW_ANONYMOUS=maybe", `ALLOW_ANONYMOUS: "maybe"` + truth},
		{"ACCESS_LOG=on\n", `ACCESS_LOG: "on\n" is not known; give one of true, false, errors`},
		{"ACCESS_LOG=1", ""},

		{"REDIS_URL=localhost:6379", redis},
		{"REDIS_URL=redis://", redis},
		{"REDIS_URL=redis://h:x", redis},
		{"REDIS_URL=unix://", redis},
		{"REDIS_URL=unix://tmp/redis.sock", redis},
		{"REDIS_URL=unix:///tmp/redis.sock?db=1", ""},
		{"REDIS_URL=redis://h", ""},
		{"REDIS_URL=rediss://u:" + canary + "@h?skip_verify=true", skip},
		{"REDIS_URL=redis://h?db=1&skip_verify", skip},
		{"REDIS_URL=rediss://h?master_name=main&addr=h2&skip%5Fverify=false", skip},
		{"REDIS_URL=redis://h STATE_FILE=state", "STATE_FILE: is set, and so is REDIS_URL; keep one of them: the file is for the Redis inside this process"},
		{"REDIS_PREFIX={x}", `REDIS_PREFIX: "{x}"` + prefix},
		{"REDIS_PREFIX=x\t", `REDIS_PREFIX: "x\t"` + prefix},

		{"HUBSPOT_CLIENT_ID=a", "HUBSPOT_CLIENT_SECRET: is not set, although required by HUBSPOT_CLIENT_ID; set it too, or unset HUBSPOT_CLIENT_ID"},
		{"HUBSPOT_CLIENT_SECRET=a", "HUBSPOT_CLIENT_ID: is not set, although required by HUBSPOT_CLIENT_SECRET; set it too, or unset HUBSPOT_CLIENT_SECRET"},
		{"HUBSPOT_CLIENT_ID=a HUBSPOT_CLIENT_SECRET=b\n", "HUBSPOT_CLIENT_SECRET: " + character},
		{"HUBSPOT_CLIENT_ID=ä HUBSPOT_CLIENT_SECRET=b", "HUBSPOT_CLIENT_ID: " + character},
		{"HUBSPOT_ACCESS_TOKEN=a\x7f", "HUBSPOT_ACCESS_TOKEN: " + character},
		{"HUBSPOT_API_KEY=\ta", "HUBSPOT_API_KEY: " + character},
		{"HUBSPOT_REFRESH_TOKEN=\xff HUBSPOT_PORTAL_ID=1 HUBSPOT_CLIENT_ID=a HUBSPOT_CLIENT_SECRET=b", "HUBSPOT_REFRESH_TOKEN: " + character},
		{"HUBSPOT_REFRESH_TOKEN=a HUBSPOT_CLIENT_ID=a HUBSPOT_CLIENT_SECRET=b", "HUBSPOT_PORTAL_ID: is not set, although required by HUBSPOT_REFRESH_TOKEN; set it too, or unset HUBSPOT_REFRESH_TOKEN"},
		{"HUBSPOT_REFRESH_TOKEN=a HUBSPOT_PORTAL_ID=1", "HUBSPOT_CLIENT_ID: is not set, although required by HUBSPOT_REFRESH_TOKEN; set it too, or unset HUBSPOT_REFRESH_TOKEN\n" +
			"HUBSPOT_CLIENT_SECRET: is not set, although required by HUBSPOT_REFRESH_TOKEN; set it too, or unset HUBSPOT_REFRESH_TOKEN"},
		{"HUBSPOT_ACCESS_TOKEN=a HUBSPOT_API_KEY=b", "HUBSPOT_ACCESS_TOKEN: is set, and so is HUBSPOT_API_KEY; keep one of them, because a portal has one credential"},
		{"HUBSPOT_PORTAL_ID=1", "HUBSPOT_PORTAL_ID: is set without a credential of that portal; set one of HUBSPOT_ACCESS_TOKEN, HUBSPOT_API_KEY and HUBSPOT_REFRESH_TOKEN, or set DEFAULT_PORTAL instead"},

		{"ENCRYPTION_KEYS=x", "ENCRYPTION_KEYS: key 1 is not id:key, with an id of letters, digits, - and _" + keys},
		{"ENCRYPTION_KEYS=a:YQ==", `ENCRYPTION_KEYS: the key "a" is not base64 of 32 bytes` + keys},
		{"HUBSPOT_REDIRECT_URL=https://h/callback", needs("CLIENT_ID") + "\n" + needs("CLIENT_SECRET")},
		{app + "HUBSPOT_REDIRECT_URL=https://h/callback", ""},
		{app + "HUBSPOT_REDIRECT_URL=http://[::1]:8081/callback", ""},
		{app + "HUBSPOT_REDIRECT_URL=http://localhost:8080/callback", ""}, // a warning: the port may be published as another one
		{app + "HUBSPOT_REDIRECT_URL=http://127.0.0.1:8081/foo", ""},      // a warning: another server may change the path
		{app + "HUBSPOT_REDIRECT_URL=/callback", "HUBSPOT_REDIRECT_URL: is not an absolute https URL with a host; give a URL such as " + redirect},
		{app + "HUBSPOT_REDIRECT_URL=https://h:x", "HUBSPOT_REDIRECT_URL: is not a URL; give a URL such as " + redirect},
		{app + "HUBSPOT_REDIRECT_URL=http://h/callback", "HUBSPOT_REDIRECT_URL: " + clear},
		{app + "HUBSPOT_REDIRECT_URL=https://u@h/callback", "HUBSPOT_REDIRECT_URL: " + user},
		{app + "HUBSPOT_REDIRECT_URL=https://h/callback#a", "HUBSPOT_REDIRECT_URL: " + fragment},
		{"HUBSPOT_SCOPES=oauth", "HUBSPOT_REDIRECT_URL: is not set, although required by HUBSPOT_SCOPES; set it too, or unset HUBSPOT_SCOPES"},
		{"NOTIFY_URL=hooks.example.com", "NOTIFY_URL: is not an absolute https URL with a host; give a URL such as https://hooks.example.com/hubspot"},
		{"NOTIFY_URL=https://hooks.example.com/%zz", "NOTIFY_URL: is not a URL; give a URL such as https://hooks.example.com/hubspot"},
		{"NOTIFY_URL=http://hooks.example.com/", "NOTIFY_URL: " + clear},
		{"NOTIFY_URL=http://u:p@hooks.example.com/#x", "NOTIFY_URL: " + clear + "\nNOTIFY_URL: " + user + "\nNOTIFY_URL: " + fragment},
		{"NOTIFY_URL_FILE=" + empty, "NOTIFY_URL_FILE: the file " + quoted(empty) + " is empty; write the value into the file, or unset NOTIFY_URL_FILE"},
		{"NOTIFY_URL=https://h/ NOTIFY_URL_FILE=" + pem, "NOTIFY_URL: is set, and so is NOTIFY_URL_FILE; keep one of them"},
		{"HUBSPOT_MARKETPLACE_INSTALL=true", "HUBSPOT_REDIRECT_URL: is not set, although required by HUBSPOT_MARKETPLACE_INSTALL; set it too, or unset HUBSPOT_MARKETPLACE_INSTALL"},
		{"HUBSPOT_MARKETPLACE_INSTALL=yes", `HUBSPOT_MARKETPLACE_INSTALL: "yes"` + truth},
		{"HUBSPOT_SCOPES=a HUBSPOT_OPTIONAL_SCOPES=b", "HUBSPOT_REDIRECT_URL: is not set, although required by HUBSPOT_SCOPES and HUBSPOT_OPTIONAL_SCOPES; set it too, or unset HUBSPOT_SCOPES and HUBSPOT_OPTIONAL_SCOPES"},
		{app + "HUBSPOT_REDIRECT_URL=https://h HUBSPOT_SCOPES=a,b", `HUBSPOT_SCOPES: "a,b" is not a scope; give scopes separated by spaces, such as oauth crm.objects.contacts.read`},
		{"HUBSPOT_AUTHORIZE_URL=http://h/a", "HUBSPOT_AUTHORIZE_URL: " + clear},
		{"HUBSPOT_AUTHORIZE_URL=https://h/a#b", "HUBSPOT_AUTHORIZE_URL: " + fragment},
		{"HUBSPOT_AUTHORIZE_URL=https://h/a?", "HUBSPOT_AUTHORIZE_URL: has a query; remove the ? and everything after it, because the proxy adds the query"},
		{"HUBSPOT_AUTHORIZE_URL=h", "HUBSPOT_AUTHORIZE_URL: is not an absolute https URL with a host; give a URL such as https://app.hubspot.com/oauth/authorize"},
		{"ADMIN_PASSWORD=long-enough-a\tb", password},
		{"ADMIN_PASSWORD=long-enough\xff", password},
		{"ADMIN_PASSWORD=elevenchars", short},
		{"ADMIN_PASSWORD=" + strings.Repeat("ä", 11), short},
		{"ADMIN_PASSWORD=" + strings.Repeat("ä", 12), ""},
		{"SEED_FILE=/does/not/exist", `SEED_FILE: cannot read "/does/not/exist": no such file or directory` + readable},
		{"SEED_FILE=x", "SEED_FILE: " + hidden},
		{"SEED_FILE=" + dir, "SEED_FILE: cannot read " + quoted(dir) + ": is a directory" + readable},

		{"HUBSPOT_API_KEY=a HUBSPOT_PORTAL_ID=default", `HUBSPOT_PORTAL_ID: "default"` + id},
		{"DEFAULT_PORTAL=0", `DEFAULT_PORTAL: "0"` + id},
		{"DEFAULT_PORTAL=12345678901234567890", `DEFAULT_PORTAL: "12345678901234567890"` + id},
		{"DEFAULT_PORTAL=1\n", `DEFAULT_PORTAL: "1\n"` + id},
		{"SERVE_PORTALS=1,x", `SERVE_PORTALS: "x"` + ids},
		{"PORTAL_DOMAIN=.localhost", `PORTAL_DOMAIN: ".localhost"` + domain},
		{"PORTAL_DOMAIN=localhost:8080", `PORTAL_DOMAIN: "localhost:8080"` + domain},
		{"PORTAL_DOMAIN=http://a.b", `PORTAL_DOMAIN: "http://a.b"` + domain},
		{"PORTAL_DOMAIN=*.a.b", `PORTAL_DOMAIN: "*.a.b"` + domain},
		{"PORTAL_DOMAIN=127.0.0.1", `PORTAL_DOMAIN: "127.0.0.1"` + domain},
		{"PORTAL_DOMAIN=.", `PORTAL_DOMAIN: ""` + domain},
		{"ALLOWED_HOSTS=a.b,c:80", `ALLOWED_HOSTS: "c:80"` + hosts},
		{"ALLOWED_HOSTS=a.b,", `ALLOWED_HOSTS: ""` + hosts},
		{"ALLOWED_HOSTS=*", `ALLOWED_HOSTS: "*"` + hosts},
		{"OAUTH_WITHOUT_KEY=no", `OAUTH_WITHOUT_KEY: "no" is neither true nor false; give true or false`},
		{"SERVE_PORTALS=1,", `SERVE_PORTALS: ""` + ids},
		{"DEFAULT_PORTAL=1 HUBSPOT_PORTAL_ID=2 HUBSPOT_API_KEY=a", `DEFAULT_PORTAL: "1" is not the portal whose credential the environment has, which is the default portal; unset DEFAULT_PORTAL, or set HUBSPOT_PORTAL_ID to the same id`},
		{"DEFAULT_PORTAL=1 HUBSPOT_API_KEY=a", `DEFAULT_PORTAL: "1" is not the portal whose credential the environment has, which is the default portal; unset DEFAULT_PORTAL, or set HUBSPOT_PORTAL_ID to the same id`},
		{"DEFAULT_PORTAL=1 SERVE_PORTALS=2,3", `SERVE_PORTALS: does not list the default portal "1"; add it`},
		{"HUBSPOT_API_KEY=a SERVE_PORTALS=2,3", `SERVE_PORTALS: does not list the portal whose credential the environment has, and which has no id; set HUBSPOT_PORTAL_ID, and add that id`},

		{"LOG_LEVEL=INFO", `LOG_LEVEL: "INFO" is not known; give one of debug, info, warn, error`},
		{"LOG_FORMAT=text", `LOG_FORMAT: "text" is not known; give one of json, console`},

		{"HUBSPOT_API_KEY=a HUBSPOT_API_KEY_FILE=/x", "HUBSPOT_API_KEY: is set, and so is HUBSPOT_API_KEY_FILE; keep one of them"},
		{"HUBSPOT_API_KEY_FILE=/x\n", `HUBSPOT_API_KEY_FILE: cannot read "/x\n": no such file or directory` + readable},
		{"HUBSPOT_API_KEY_FILE=x", "HUBSPOT_API_KEY_FILE: " + hidden},
		{"HUBSPOT_API_KEY_FILE=" + dir, "HUBSPOT_API_KEY_FILE: cannot read " + quoted(dir) + ": is a directory" + readable},
		{"HUBSPOT_API_KEY_FILE=" + empty, "HUBSPOT_API_KEY_FILE: the file " + quoted(empty) + " is empty; write the value into the file, or unset HUBSPOT_API_KEY_FILE"},
	} {
		t.Run(test.environ, func(t *testing.T) {
			got := ""
			if _, err := config.Load(strings.Split(test.environ, " ")); err != nil {
				got = err.Error()
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAllFaultsAreReportedTogetherAndEachOnce(t *testing.T) {
	got, err := config.Load([]string{
		"LISTEN_ADDR=x", "UPSTREAM_TIMEOUT=x", "RETRY_MEMORY=x", "ACCESS_LOG=x", "UPSTREAM_URL=https://h:x", "LOG_LEVEL=x", "REDIS_URL=x",
		"HUBSPOT_PORTAL_ID=62515", "HUBSPOT_REFRESH_TOKEN=r", "HUBSPOT_CLIENT_ID=a", "HUBSPOT_CLIENT_SECRET_FILE=/none",
	})
	faults, ok := errors.AsType[config.Faults](err)
	if !ok {
		t.Fatalf("error is %T", err)
	}
	var names []string
	for _, fault := range faults {
		names = append(names, fault.Name)
	}
	want := []string{"HUBSPOT_CLIENT_SECRET_FILE", "UPSTREAM_URL", "UPSTREAM_TIMEOUT", "RETRY_MEMORY", "LISTEN_ADDR", "REDIS_URL", "LOG_LEVEL", "ACCESS_LOG"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(config.Config{}, got, ignoreSources); diff != "" {
		t.Errorf("a faulty Config is returned: %s", diff)
	}
}

// quoted returns a path in the form in which faults quote it.
func quoted(path string) string {
	if len(path) > 60 {
		path = path[:60] + "…"
	}
	return `"` + path + `"`
}
