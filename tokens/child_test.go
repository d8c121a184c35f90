package tokens_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspot"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/redistest"
	"hubspot-auth-proxy/tokens/secret"
	"hubspot-auth-proxy/tokens/store"
)

// The environment of a child: a process that asks for the portal's credential.
const (
	childRedis    = "TOKENS_TEST_CHILD_REDIS"
	childTokenURL = "TOKENS_TEST_CHILD_TOKEN_URL"
)

// beChild is the main function of the child.
func beChild() {
	client, err := store.Open(secret.New(os.Getenv(childRedis)))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	s := tokens.NewSource(tokens.Options{Redis: client, Prefix: "hubspot:", RefreshAhead: time.Minute, App: &hubspot.App{
		ClientID:     hubspottest.ClientID,
		ClientSecret: secret.New(hubspottest.ClientSecret),
		TokenURL:     os.Getenv(childTokenURL),
		Client:       hubspot.NewClient(nil, 15*time.Second),
	}})
	_, err = s.Credential(context.Background(), portalID)
	fmt.Fprintln(os.Stderr, err)
}

func TestTheRenewalOfAKilledProcessIsTakenOverWithinSeconds(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	hub := newHub(t)
	s := newSource(t, hub, tokens.Options{Redis: dial(t, server)})
	seed(t, s, hub, portalID)
	hub.SetToken(hubspottest.TokenBehaviour{Hang: true})

	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), childRedis+"="+server.URL(), childTokenURL+"="+hub.TokenURL())
	child.Stderr = os.Stderr
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	untilCalls(t, hub, 1) // the child has the lock, and its token call hangs
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait()
	hub.SetToken(hubspottest.TokenBehaviour{})

	begin := time.Now()
	for _, r := range together(20, func() (*tokens.Credential, error) { return s.Credential(t.Context(), portalID) }) {
		if r.err != nil {
			t.Fatal(r.err)
		}
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
	wantCalls(t, hub, 2)
}
