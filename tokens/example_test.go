package tokens_test

import (
	"context"
	"fmt"
	"time"

	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspot"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/secret"
	"hubspot-auth-proxy/tokens/store"
)

// A source renews a portal's access token before the first use, and again when HubSpot rejects it.
func ExampleNewSource() {
	hub := hubspottest.NewServer()
	defer hub.Close()
	redis, end := store.Embedded()
	defer end()

	source := tokens.NewSource(tokens.Options{
		Redis:  redis,
		Prefix: "hubspot:",
		App: &hubspot.App{
			ClientID:     hubspottest.ClientID,
			ClientSecret: secret.New(hubspottest.ClientSecret),
			TokenURL:     hub.TokenURL(),
			Client:       hubspot.NewClient(nil, 15*time.Second),
		},
		RefreshAhead: 5 * time.Minute,
	})
	ctx := context.Background()
	defer func() { _ = source.Close(ctx) }()

	seed := tokens.Seed{Portal: "62515", Kind: tokens.OAuth, Secret: secret.New(hub.Connect("62515"))}
	if _, err := source.Seed(ctx, seed); err != nil {
		fmt.Println(err)
		return
	}
	first, err := source.Credential(ctx, "62515")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(first.Kind, first.Secret)

	const expired = true
	second, err := source.Renew(ctx, first, expired)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("another one:", !second.Secret.Equal(first.Secret), "token calls:", hub.TokenCalls("62515"))

	_, err = source.Credential(ctx, "62516")
	fmt.Println(err)
	// Output:
	// oauth [redacted]
	// another one: true token calls: 2
	// no credential is stored for the portal
}
