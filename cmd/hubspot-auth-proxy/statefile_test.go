package main

import (
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/store/statefile"
	"hubspot-auth-proxy/tokens/testkit"
)

// stateFile returns the path of a state file in a folder to which only this user may write.
func stateFile(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	if err := os.Chmod(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(folder, "state")
}

func TestAPortalThatWasConnectedByAClickIsThereAfterAKill(t *testing.T) {
	t.Parallel()
	hub := hubspottest.NewServer()
	defer hub.Close()
	admin := freePort(t)
	path := stateFile(t)
	settings := []string{
		"STATE_FILE=" + path, "UPSTREAM_URL=" + hub.URL, "ADMIN_ADDR=" + admin,
		"HUBSPOT_CLIENT_ID=" + hubspottest.ClientID, "HUBSPOT_CLIENT_SECRET=" + hubspottest.ClientSecret,
		"HUBSPOT_REDIRECT_URL=http://" + admin + "/callback", "HUBSPOT_AUTHORIZE_URL=" + hub.AuthorizeURL(), "HUBSPOT_SCOPES=oauth",
		"ENCRYPTION_KEYS=a:" + strings.Repeat("A", 43) + "=",
	}
	p := launch(t, "serve", settings...)
	p.address()
	someone := &person{t: t}
	_, _, authorize := someone.open("http://" + admin + "/connect")
	back, err := hub.Authorize(authorize, "62515")
	if err != nil {
		t.Fatal(err)
	}
	if status, page, _ := someone.open(back); status != http.StatusOK {
		t.Fatalf("status %d\n%s", status, page)
	}
	_ = p.Process.Kill()
	p.exit()

	p = launch(t, "serve", settings...)
	if status, body := get(t, "http://"+p.address()+"/portals/62515/crm/v3/objects/contacts"); status != http.StatusOK {
		t.Errorf("status %d\n%s", status, body)
	}
	if status, _, _ := someone.open(back); status == http.StatusOK {
		t.Error("the state of the connect flow is taken a second time")
	}
	if n := hub.TokenCallsTotal(); n != 1 {
		t.Errorf("%d calls of the token endpoint", n)
	}
	text, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(text), "portal:{62515}") || strings.Contains(string(text), hubspottest.Canary) {
		t.Errorf("the file has no portal, or a secret: %v\n%s", err, text)
	}
}

func TestCommandsReachTheProcessThatHasTheStateFile(t *testing.T) {
	t.Parallel()
	hub := hubspottest.NewServer()
	defer hub.Close()
	const token = "pat-na1-" + hubspottest.Canary
	hub.SetAccessToken("62515", token)
	path := stateFile(t)
	environ := []string{"STATE_FILE=" + path, "UPSTREAM_URL=" + hub.URL, "ALLOW_ANONYMOUS=false"}
	command := func(stdin string, args ...string) string {
		t.Helper()
		var stdout, stderr testkit.Output
		if err := run(t.Context(), args, environ, strings.NewReader(stdin), &stdout, &stderr); err != nil {
			t.Fatalf("%q: %v\n%s", args, err, stderr.String())
		}
		return strings.TrimSpace(stdout.String())
	}
	p := launch(t, "serve", environ...)
	url := "http://" + p.address() + "/portals/62515/crm/v3/objects/contacts"
	command(token, "portal", "set", "62515", "access_token")
	key := command("", "client", "add", "billing", "--portals", "62515")
	testkit.Eventually(t, "the key works", func() bool { return statusOf(t, url, key) == http.StatusOK })
	command("", "client", "remove", "billing")
	testkit.Eventually(t, "the key does not work any more", func() bool { return statusOf(t, url, key) == http.StatusUnauthorized })
	testkit.Eventually(t, "calls are counted", func() bool { return strings.Contains(command("", "usage"), "billing") })

	other := launch(t, "serve", environ...)
	if status := other.exit(); status != 1 || !strings.Contains(other.stderr.String(), "hubspot-auth-proxy: STATE_FILE is in use by process ") || !strings.Contains(other.stderr.String(), "(hubspot-auth-proxy serve, since ") {
		t.Errorf("a second process: exit status %d\n%s", status, other.stderr.String())
	}

	p.terminate()
	if status := p.exit(); status != 0 {
		t.Errorf("exit status %d\n%s", status, p.stderr.String())
	}
	if listed := command("", "portal", "list"); !strings.Contains(listed, "62515") {
		t.Errorf("without the proxy: %s", listed)
	}
	if used := command("", "usage"); !strings.Contains(used, "billing") {
		t.Errorf("the counts are gone: %s", used)
	}
	if entries, _ := filepath.Glob(path + "*"); len(entries) != 2 {
		t.Errorf("beside the file: %q", entries)
	}
}

func TestACommandNamesTheProcessThatUsesTheStateFileAndDoesNotAnswer(t *testing.T) {
	t.Parallel()
	path := stateFile(t)
	server, err := statefile.Open(path, statefile.Options{Holder: "test"})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	socket, err := net.Listen("unix", statefile.Socket(path))
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	go func() {
		for conn, err := socket.Accept(); err == nil; conn, err = socket.Accept() {
			_ = conn.Close()
		}
	}()
	err = run(t.Context(), []string{"portal", "list"}, []string{"STATE_FILE=" + path}, nil, io.Discard, io.Discard)
	if err == nil || !strings.HasPrefix(err.Error(), "no answer from the process that uses STATE_FILE; check that process") {
		t.Errorf("the error is %v", err)
	}
}

// Of several processes that are started at once, one after the other uses the file.
func TestCommandsWaitForEachOther(t *testing.T) {
	t.Parallel()
	environ := []string{"STATE_FILE=" + stateFile(t)}
	results := make(chan error)
	const n = 8
	for i := range n {
		go func() {
			results <- run(t.Context(), []string{"client", "add", "client" + string(rune('a'+i)), "--portals", "1"}, environ, nil, io.Discard, io.Discard)
		}()
	}
	for range n {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	var listed testkit.Output
	if err := run(t.Context(), []string{"client", "list"}, environ, nil, &listed, io.Discard); err != nil || strings.Count(listed.String(), "client") < n {
		t.Errorf("%v\n%s", err, listed.String())
	}
}
