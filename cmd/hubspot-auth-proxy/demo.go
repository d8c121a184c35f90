package main

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"

	"github.com/caarlos0/env/v11"

	"hubspot-auth-proxy/config"
	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/secret"
)

const (
	demoPortal       = "62515" // connected by OAuth
	demoStaticPortal = "62516" // with a private app's token
)

const demoText = `
The proxy runs at PROXY, in front of a fake HubSpot at
HUBSPOT, whose answers show the request that it received.
Paste these lines into another terminal.

A call for the default portal, 62515. The client sends no token; the headers that
HubSpot received have the proxy's token:

  curl -s 'PROXY/crm/v3/objects/contacts?limit=1'

A call for another portal, 62516, named in the path:

  curl -s PROXY/portals/62516/crm/v3/objects/contacts

Let HubSpot reject the proxy's token, and call again. The answer is 200, with
X-Hubspot-Auth-Proxy-Attempts: 2, because the proxy has renewed the token:

  curl -s -X POST HUBSPOT/fake/expire/62515
  curl -si -H 'X-Hubspot-Auth-Proxy-Debug: 1' PROXY/crm/v3/objects/contacts

See the state of the portals, and connect another one, in a browser:

  ADMIN

Commands such as portal set cannot reach the demo, because all its data is in its own
memory. Press Ctrl-C to stop.

`

// demo runs the proxy against a fake HubSpot in this process until ctx ends.
func demo(ctx context.Context, environ []string, stdout, stderr io.Writer) error {
	hub := hubspottest.NewServer()
	defer hub.Close()
	hub.AllowClientKeys() // so that people can call the fake HubSpot directly with curl
	settings, err := demoSettings(hub, environ)
	if err != nil {
		return err
	}
	log, flush := newLogger(settings, stderr)
	defer flush()
	s, err := start(ctx, settings, nil, log)
	if err != nil {
		return err
	}
	const token = "pat-na1-demo-11111111-2222-3333-4444-555555555555"
	hub.SetAccessToken(demoStaticPortal, token)
	_, err = s.source.Seed(ctx, tokens.Seed{Portal: demoStaticPortal, Kind: tokens.AccessToken, Secret: secret.New(token)})
	if err == nil {
		host, _, _ := net.SplitHostPort(settings.ListenAddr) // the listener's own says [::] if this is empty
		_, port, _ := net.SplitHostPort(s.listener.Addr().String())
		_, err = strings.NewReplacer("PROXY", "http://"+reachable(host, port), "HUBSPOT", hub.URL,
			"ADMIN", "http://"+settings.AdminAddr+"/").WriteString(stdout, demoText)
	}
	return errors.Join(err, s.run(ctx))
}

// demoSettings returns the default settings, with a portal of the fake HubSpot. Only
// LISTEN_ADDR and the log's settings are taken from the environment.
func demoSettings(hub *hubspottest.Server, environ []string) (config.Config, error) {
	given := env.ToMap(environ)
	address := given["LISTEN_ADDR"]
	if address == "" {
		address = freeAddress("127.0.0.1:8080")
	}
	admin := freeAddress("127.0.0.1:8081")
	return config.Load([]string{
		"LISTEN_ADDR=" + address,
		"ADMIN_ADDR=" + admin,
		"HUBSPOT_REDIRECT_URL=http://" + admin + "/callback",
		"HUBSPOT_SCOPES=" + hubspottest.RequiredScope,
		"HUBSPOT_AUTHORIZE_URL=" + hub.AuthorizeURL(),
		"ALLOW_ANONYMOUS=true",
		"LOG_LEVEL=" + given["LOG_LEVEL"],
		"LOG_FORMAT=" + given["LOG_FORMAT"],
		"ACCESS_LOG=" + given["ACCESS_LOG"],
		"UPSTREAM_URL=" + hub.URL,
		"HUBSPOT_CLIENT_ID=" + hubspottest.ClientID,
		"HUBSPOT_CLIENT_SECRET=" + hubspottest.ClientSecret,
		"HUBSPOT_PORTAL_ID=" + demoPortal,
		"HUBSPOT_REFRESH_TOKEN=" + hub.Connect(demoPortal),
	})
}

// freeAddress returns address. If another program listens there, freeAddress returns the
// same host with a free port.
func freeAddress(address string) string {
	listener, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		host, _, _ := strings.Cut(address, ":")
		listener, err = net.Listen("tcp", host+":0")
	}
	if err != nil {
		return address // start binds the address again, and reports the error
	}
	defer listener.Close()
	return listener.Addr().String()
}
