package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"hubspot-auth-proxy/tokens/redistest"
	"hubspot-auth-proxy/tokens/testkit"
)

// The test's Redis requires a client certificate, and has its own authority.
func TestRedisOverTLS(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl is not installed")
	}
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	openssl := func(args ...string) {
		t.Helper()
		command := exec.Command("openssl", args...)
		if text, err := command.CombinedOutput(); err != nil {
			t.Fatalf("openssl %q: %v\n%s", args, err, text)
		}
	}
	authority := func(name string) {
		openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN="+name,
			"-addext", "basicConstraints=critical,CA:TRUE", "-keyout", path(name+".key"), "-out", path(name+".pem"))
	}
	authority("own")
	authority("other")
	openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
		"-keyout", path("leaf.key"), "-out", path("leaf.csr"))
	openssl("x509", "-req", "-in", path("leaf.csr"), "-CA", path("own.pem"), "-CAkey", path("own.key"), "-CAcreateserial", "-days", "2", "-copy_extensions", "copy", "-out", path("leaf.pem"))
	server := redistest.Start(t, redistest.With("--unixsocket", path("socket"), "--tls-port", "%FREE%",
		"--tls-cert-file", path("leaf.pem"), "--tls-key-file", path("leaf.key"), "--tls-ca-cert-file", path("own.pem"), "--tls-auth-clients", "yes"))
	port := strings.Trim(strings.TrimPrefix(server.Do("config", "get", "tls-port"), "[tls-port "), "]")
	_, user, _ := strings.Cut(server.URL(), "://")
	user, _, _ = strings.Cut(user, "@")
	listAt := func(url string, settings ...string) string {
		var stderr testkit.Output
		err := run(t.Context(), []string{"client", "list"}, append(settings, "REDIS_URL="+url), strings.NewReader(""), &testkit.Output{}, &stderr)
		if err == nil {
			return "works"
		}
		return err.Error()
	}
	list := func(settings ...string) string { return listAt("rediss://"+user+"@127.0.0.1:"+port, settings...) }
	pair := []string{"REDIS_TLS_CERT_FILE=" + path("leaf.pem"), "REDIS_TLS_KEY_FILE=" + path("leaf.key")}
	if got := list(append(pair, "REDIS_TLS_CA_FILE="+path("own.pem"))...); got != "works" {
		t.Errorf("with the certificate and the authority: %s", got)
	}
	for name, settings := range map[string][]string{
		"another authority": append(pair, "REDIS_TLS_CA_FILE="+path("other.pem")),
		"no authority":      pair,
		"no certificate":    {"REDIS_TLS_CA_FILE=" + path("own.pem")},
		"a key as the CA":   append(pair, "REDIS_TLS_CA_FILE="+path("own.key")),
		"no key":            {pair[0], "REDIS_TLS_CA_FILE=" + path("own.pem")},
	} {
		if got := list(settings...); got == "works" {
			t.Errorf("%s: it works", name)
		}
	}
	for url, want := range map[string]string{
		"redis://" + user + "@127.0.0.1:" + port:  "with TLS, the URL must begin with rediss://: ping Redis: the connection was closed",
		"rediss://" + user + "@" + server.Addr:    "without TLS, the URL must begin with redis://: ping Redis: timeout",
		"rediss://" + user + "@127.0.0.1:" + port: "check the host in REDIS_URL, and REDIS_TLS_CA_FILE: ping Redis: tls: failed to verify certificate",
		"redis://" + user + "@127.0.0.1:1":        "check REDIS_URL, and whether this machine can reach Redis: ping Redis: dial",
		"rediss://" + user + "@127.0.0.1:1":       "check REDIS_URL, and whether this machine can reach Redis: ping Redis: dial",
		"redis://hubspot:wrong@" + server.Addr:    "check the user and the password in REDIS_URL: ping Redis: Redis answers WRONGPASS",
	} {
		if got := listAt(url); !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s", url, got, want)
		}
	}
}
