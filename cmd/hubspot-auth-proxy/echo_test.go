package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"testing"
	"time"

	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspot"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/secret"
	"hubspot-auth-proxy/tokens/testkit"
)

// echoServer answers every call with those bytes, and closes the connection. It replaces ECHO by
// the request that it received, in one line.
func echoServer(t *testing.T, answer string) (address string) {
	t.Helper()
	return testkit.Serve(t, func(conn net.Conn) { echo(conn, answer) })
}

func echo(conn net.Conn, answer string) {
	request, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		return
	}
	sent, _ := httputil.DumpRequest(request, true)
	line := strings.NewReplacer("\r\n", " ", "\"", "'").Replace(string(sent))
	_, _ = io.WriteString(conn, strings.ReplaceAll(answer, "ECHO", line))
}

// echoes are answers with an echo in different places.
var echoes = map[string]string{
	"status line":       "ECHO\r\n\r\n",
	"status":            "HTTP/1.1 ECHO\r\n\r\n",
	"reason":            "HTTP/1.1 500 ECHO\r\nContent-Length: 0\r\n\r\n",
	"header line":       "HTTP/1.1 200 OK\r\nECHO\r\n\r\n",
	"Content-Length":    "HTTP/1.1 200 OK\r\nContent-Length: ECHO\r\n\r\n",
	"Transfer-Encoding": "HTTP/1.1 200 OK\r\nTransfer-Encoding: ECHO\r\n\r\n",
	"Location":          "HTTP/1.1 302 Found\r\nLocation: http://x/%zz?ECHO\r\nContent-Length: 0\r\n\r\n",
	"Location's scheme": "HTTP/1.1 307 R\r\nLocation: ECHO://x/\r\nContent-Length: 0\r\n\r\n",
	"chunk's length":    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\nECHO\r\n",
	"body":              "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nECHO",
	"body of a refusal": "HTTP/1.1 400 Bad\r\nConnection: close\r\n\r\n{\"status\":\"ECHO\",\"message\":\"ECHO\",\"error\":\"ECHO\"}",
	"JSON":              "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"portalId\":\"ECHO\",\"hub_id\":\"ECHO\",\"access_token\":\"ECHO\"}",
	"unauthorized":      "HTTP/1.1 401 ECHO\r\nConnection: close\r\n\r\n{\"category\":\"ECHO\",\"message\":\"ECHO\"}",
}

// echoCommands are all commands, each with its ways to call it.
func echoCommands() map[string][][]string {
	return map[string][][]string{
		"portal set":    {{"3", "api_key"}},
		"portal list":   {{}, {"--all"}, {"--json"}},
		"portal show":   {{"1"}, {"3"}, {"1", "--json"}, {"3", "--json"}},
		"portal check":  {{"1"}, {"2"}, {"3"}, {"4"}, {"9"}, {"--all"}, {"1", "--json"}, {"2", "--json"}, {"3", "--json"}, {"4", "--json"}, {"--all", "--json"}},
		"portal link":   {{"--portal", "1"}, {"--any"}},
		"portal remove": {{"9"}},
		"client add":    {{"billing", "--portals", "1", "--replace"}},
		"client rotate": {{"billing"}, {"nobody"}},
		"client list":   {{}, {"--json"}},
		"client remove": {{"nobody"}},
		"usage":         {{}, {"--json"}},
		"keys generate": {{"a"}},
		"keys rotate":   {{}},
		"ca generate":   {{"--out", "/dev/null/ca"}},
		"config":        {{}},
		"healthcheck":   {{}, {"--live"}},
		"version":       {{}},
	}
}

func TestNoCommandPrintsAnEchoOfItsRequest(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	source := s.source()
	for _, seed := range []tokens.Seed{
		{Portal: "2", Kind: tokens.AccessToken, Secret: secret.New(staticToken)},
		{Portal: "3", Kind: tokens.APIKey, Secret: secret.New("key-" + hubspottest.Canary)},
		{Portal: "4", Kind: tokens.OAuth, Secret: secret.New("refresh-" + hubspottest.Canary)}, // to be renewed first
	} {
		if err := source.Set(t.Context(), seed, "test"); err != nil {
			t.Fatal(err)
		}
	}
	granted := hubspot.Token{Access: secret.New("access-" + hubspottest.Canary), Refresh: secret.New("refresh-" + hubspottest.Canary), ExpiresIn: time.Hour}
	if err := source.Connect(t.Context(), "1", granted, tokens.ConnectRequest{Issued: time.Now()}, "test"); err != nil {
		t.Fatal(err)
	}
	commands := echoCommands()
	for _, cmd := range allCommands() {
		if commands[cmd.name] == nil && cmd.name != "serve" && cmd.name != "demo" { // these print a log
			t.Errorf("the command %s is not tried", cmd.name)
		}
	}
	for where, answer := range echoes {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			address := echoServer(t, answer)
			environ := []string{
				"REDIS_URL=" + s.redis.URL(), "UPSTREAM_URL=http://" + address, "ADMIN_ADDR=" + address, "LOG_LEVEL=debug",
				"HUBSPOT_CLIENT_ID=" + hubspottest.ClientID, "HUBSPOT_CLIENT_SECRET=" + hubspottest.ClientSecret,
				"HUBSPOT_REDIRECT_URL=http://localhost:8081/callback", "HUBSPOT_SCOPES=oauth",
			}
			for name, ways := range commands {
				for _, way := range ways {
					tryEcho(t, append(strings.Fields(name), way...), environ)
				}
			}
		})
	}
}

// tryEcho runs a command, and searches its output for secrets.
func tryEcho(t *testing.T, args, environ []string) {
	t.Helper()
	var stdout, stderr testkit.Output
	err := run(t.Context(), args, environ, strings.NewReader("key-"+hubspottest.Canary), &stdout, &stderr)
	_ = status(err, &stderr)
	printed := stdout.String() + stderr.String()
	if printed == "" && err == nil && args[0] != "healthcheck" {
		t.Errorf("%q prints nothing", args)
	}
	if at := strings.Index(printed, hubspottest.Canary); at >= 0 {
		t.Errorf("%q prints a secret: …%s…", args, printed[max(0, at-200):min(len(printed), at+100)])
	}
	if strings.Contains(printed, "hapikey=") || strings.Contains(printed, "refresh_token=") {
		t.Errorf("%q prints what was sent: %s", args, printed)
	}
}

// The proxy passes answers on, and logs no part of them.
func TestTheLogHasNoEchoOfARequest(t *testing.T) {
	t.Parallel()
	for where, answer := range echoes {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			address := echoServer(t, answer)
			m := newMount(t, fmt.Sprintf("portals:\n- {id: 1, access_token: %s}\n- {id: 2, api_key: key-%s}\n- {id: 3, refresh_token: refresh-%[2]s}\n", staticToken, hubspottest.Canary))
			p := launch(t, "serve", "UPSTREAM_URL=http://"+address, "HUBSPOT_CLIENT_ID="+hubspottest.ClientID,
				"HUBSPOT_CLIENT_SECRET="+hubspottest.ClientSecret, "SEED_FILE="+m.path(), "LOG_LEVEL=debug")
			base := "http://" + p.address()
			for _, path := range []string{"/portals/1/a", "/portals/2/a", "/portals/3/a", "/oauth/v1/access-tokens/" + staticToken} {
				if response, err := http.Get(base + path); err == nil {
					_, _ = io.Copy(io.Discard, response.Body)
					_ = response.Body.Close()
				}
			}
			wantNoSecret(t, p.end())
		})
	}
}
