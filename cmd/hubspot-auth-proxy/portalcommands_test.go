package main

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"hubspot-auth-proxy/config"
	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspot"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/redistest"
	"hubspot-auth-proxy/tokens/secret"
	"hubspot-auth-proxy/tokens/testkit"
)

func TestCommandsTakeEffectInARunningProxy(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	hub := hubspottest.NewServer()
	defer hub.Close()
	environ := []string{"REDIS_URL=" + server.URL(), "UPSTREAM_URL=" + hub.URL, "ALLOW_ANONYMOUS=false"}
	command := func(stdin string, args ...string) string {
		t.Helper()
		var stdout testkit.Output
		if err := run(t.Context(), args, environ, strings.NewReader(stdin), &stdout, io.Discard); err != nil {
			t.Fatalf("%q: %v", args, err)
		}
		return strings.TrimSpace(stdout.String())
	}
	address := launch(t, "serve", environ...).address()
	answers := func(key string) int {
		return statusOf(t, "http://"+address+"/portals/62516/crm/v3/objects/contacts", key)
	}
	first, second := "pat-na1-1-"+hubspottest.Canary, "pat-na1-2-"+hubspottest.Canary

	key := command("", "client", "add", "billing", "--portals", "62516")
	testkit.Eventually(t, "the key is known", func() bool { return answers(key) == http.StatusForbidden })
	hub.SetAccessToken("62516", first)
	command(first, "portal", "set", "62516", "access_token")
	testkit.Eventually(t, "the portal is served", func() bool { return answers(key) == http.StatusOK })
	hub.SetAccessToken("62516", second)
	command(second, "portal", "set", "62516", "access_token")
	testkit.Eventually(t, "the new token is used", func() bool { return answers(key) == http.StatusOK })
	command("", "portal", "remove", "62516")
	testkit.Eventually(t, "the portal is refused", func() bool { return answers(key) == http.StatusForbidden })
	other := command("", "client", "add", "billing", "--portals", "62516", "--replace")
	testkit.Eventually(t, "the key is replaced", func() bool {
		return answers(key) == http.StatusUnauthorized && answers(other) == http.StatusForbidden
	})
	command("", "client", "remove", "billing")
	testkit.Eventually(t, "the key is refused", func() bool { return answers(other) == http.StatusUnauthorized })
}

// statusOf returns the status of the answer to a call with the client key.
func statusOf(t *testing.T, url, key string) int {
	t.Helper()
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+key)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	return response.StatusCode
}

func TestPortalCheckRenewsATokenThatHubSpotDoesNotAccept(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	hub := hubspottest.NewServer()
	defer hub.Close()
	environ := []string{
		"REDIS_URL=" + server.URL(), "UPSTREAM_URL=" + hub.URL,
		"HUBSPOT_CLIENT_ID=" + hubspottest.ClientID, "HUBSPOT_CLIENT_SECRET=" + hubspottest.ClientSecret,
	}
	settings, err := config.Load(environ)
	if err != nil {
		t.Fatal(err)
	}
	redis, err := openRedis(t.Context(), settings, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	s := &store{settings: settings, log: zap.NewNop()}
	s.connect(redis, nil, nil)
	defer s.close()
	refresh := secret.New(hub.Connect("62515"))
	token := hubspot.Token{Access: secret.New(hub.Issue("62515", time.Hour)), Refresh: refresh, ExpiresIn: time.Hour}
	if err := s.source.Connect(t.Context(), "62515", token, tokens.ConnectRequest{Issued: time.Now().Add(time.Minute)}, "test"); err != nil {
		t.Fatal(err)
	}
	hub.Revoke("62515")
	var stdout testkit.Output
	err = run(t.Context(), []string{"portal", "check", "62515"}, environ, nil, &stdout, io.Discard)
	if err != nil || stdout.String() != "portal 62515: right, HubSpot names portal 62515; scopes: crm.objects.contacts.read oauth\n" {
		t.Errorf("%v, %q", err, stdout.String())
	}
	if calls := hub.TokenCalls("62515"); calls != 1 {
		t.Errorf("it was renewed %d times", calls)
	}
}

func TestALinkConnectsItsPortal(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	hub := hubspottest.NewServer()
	defer hub.Close()
	admin := freePort(t)
	environ := []string{
		"REDIS_URL=" + server.URL(), "UPSTREAM_URL=" + hub.URL, "ADMIN_ADDR=" + admin,
		"HUBSPOT_CLIENT_ID=" + hubspottest.ClientID, "HUBSPOT_CLIENT_SECRET=" + hubspottest.ClientSecret,
		"HUBSPOT_REDIRECT_URL=http://" + admin + "/callback", "HUBSPOT_AUTHORIZE_URL=" + hub.AuthorizeURL(), "HUBSPOT_SCOPES=oauth",
	}
	launch(t, "serve", environ...).address()
	follow := func(portal string) int {
		t.Helper()
		var link testkit.Output
		if err := run(t.Context(), []string{"portal", "link", "--portal", "62515"}, environ, nil, &link, io.Discard); err != nil {
			t.Fatal(err)
		}
		back, err := hub.Authorize(strings.TrimSpace(link.String()), portal)
		if err != nil {
			t.Fatal(err)
		}
		return statusOf(t, back, "")
	}
	if status := follow("62516"); status < 400 {
		t.Errorf("another portal: status %d", status)
	}
	if status := follow("62515"); status != http.StatusOK {
		t.Errorf("its portal: status %d", status)
	}
	var stdout testkit.Output
	err := run(t.Context(), []string{"portal", "check", "--all"}, environ, nil, &stdout, io.Discard)
	if err != nil || !strings.Contains(stdout.String(), "1 portal: 1 right, 0 not") {
		t.Errorf("%v, %s", err, &stdout)
	}
}

func TestARecordOfANewerVersionIsRemovedByForceOnly(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	const key = "hubspot:portal:{62515}"
	portal := func(stdin string, args ...string) error {
		return run(t.Context(), append([]string{"portal"}, args...), []string{"REDIS_URL=" + server.URL()}, strings.NewReader(stdin), io.Discard, io.Discard)
	}
	if err := portal(hubspottest.Canary, "set", "62515", "access_token"); err != nil {
		t.Fatal(err)
	}
	server.Do("hset", key, "schema", "2")
	for _, args := range [][]string{{"remove", "62515"}, {"set", "62515", "access_token"}} {
		if err := portal(hubspottest.Canary, args...); err == nil || !strings.Contains(err.Error(), "run the newer version, or give --force") {
			t.Errorf("%q: %v", args, err)
		}
	}
	if got := server.Do("hmget", key, "schema", "state"); got != "[2 active]" {
		t.Errorf("the record is %q", got)
	}
	if usage := (usageError{}); !errors.As(portal("", "remove", "62515", "--force", "--revoke"), &usage) {
		t.Error("--force and --revoke are taken together")
	}
	if err := portal("", "remove", "62515", "--force"); err != nil {
		t.Error(err)
	}
	if got := server.Do("hmget", key, "schema", "state"); got != "[1 removed]" {
		t.Errorf("the record is %q", got)
	}
}
