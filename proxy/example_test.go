package proxy_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"time"

	"hubspot-auth-proxy/proxy"
	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/secret"
	"hubspot-auth-proxy/tokens/store"
)

// The client's own credential does not reach HubSpot, which gets the portal's.
func ExampleNew() {
	hub := hubspottest.NewServer()
	defer hub.Close()
	hub.SetAccessToken("62515", "pat-na1-example")
	redis, end := store.Embedded()
	defer end()
	source := tokens.NewSource(tokens.Options{Redis: redis, Prefix: "hubspot:"})
	ctx := context.Background()
	defer func() { _ = source.Close(ctx) }()
	seed := tokens.Seed{Portal: "62515", Kind: tokens.AccessToken, Secret: secret.New("pat-na1-example")}
	if _, err := source.Seed(ctx, seed); err != nil {
		fmt.Println(err)
		return
	}

	upstream, _ := url.Parse(hub.URL)
	p := proxy.New(proxy.Options{
		Credentials:     source,
		Upstream:        upstream,
		UpstreamTimeout: 2 * time.Minute,
		AllowAnonymous:  true,
		Loopback:        true,
	})
	defer p.Close()
	server := httptest.NewUnstartedServer(p)
	server.Config = p.Server()
	server.Start()
	defer server.Close()

	request, _ := http.NewRequest("GET", server.URL+"/portals/62515/crm/v3/owners?limit=1", nil)
	request.Header.Set("Authorization", "Bearer whatever the SDK insists on")
	response, err := server.Client().Do(request)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer response.Body.Close()
	echo, err := hubspottest.DecodeEcho(response.Body)
	fmt.Println(response.StatusCode, echo.Target, echo.Header["Authorization"], err)
	// Output: 200 /crm/v3/owners?limit=1 [Bearer pat-na1-example] <nil>
}
