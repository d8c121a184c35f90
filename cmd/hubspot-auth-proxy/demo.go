package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"text/template"

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

var demoText = template.Must(template.New("demo").Parse(`
The proxy runs at {{.Proxy}}, in front of a fake HubSpot at
{{.HubSpot}}, which answers with what it has received.
Paste these lines into another terminal.

A plain call, for the default portal, {{.Portal}}. The client has no token; the
proxy's is among the headers that HubSpot received:

  curl -s '{{.Proxy}}/crm/v3/objects/contacts?limit=1'

A call for another portal, {{.StaticPortal}}, named in the path:

  curl -s {{.Proxy}}/portals/{{.StaticPortal}}/crm/v3/objects/contacts

Let HubSpot reject the token that the proxy holds, and call again. The answer is
200 all the same: X-Hubspot-Auth-Proxy-Attempts says 2.

  curl -s -X POST {{.HubSpot}}/fake/expire/{{.Portal}}
  curl -si -H 'X-Hubspot-Auth-Proxy-Debug: 1' {{.Proxy}}/crm/v3/objects/contacts

Ctrl-C ends it.

`))

// demo runs the proxy against a fake HubSpot in this process until ctx ends.
func demo(ctx context.Context, environ []string, stdout, stderr io.Writer) error {
	hub := hubspottest.NewServer()
	defer hub.Close()
	settings, err := demoSettings(hub, environ)
	if err != nil {
		return err
	}
	log, flush := newLogger(settings, stderr)
	defer flush()
	s, err := start(ctx, settings, log)
	if err != nil {
		return err
	}
	const token = "pat-na1-demo-11111111-2222-3333-4444-555555555555"
	hub.SetAccessToken(demoStaticPortal, token)
	_, err = s.source.Seed(ctx, tokens.Seed{Portal: demoStaticPortal, Kind: tokens.AccessToken, Secret: secret.New(token)})
	if err == nil {
		err = demoText.Execute(stdout, map[string]string{
			"Proxy": "http://" + reachable(s.listener.Addr()), "HubSpot": hub.URL,
			"Portal": demoPortal, "StaticPortal": demoStaticPortal,
		})
	}
	return errors.Join(err, s.run(ctx))
}

// demoSettings are the defaults, with a portal of the fake HubSpot's. Of the
// environment only LISTEN_ADDR and the log's settings count.
func demoSettings(hub *hubspottest.Server, environ []string) (config.Config, error) {
	given := env.ToMap(environ)
	address := given["LISTEN_ADDR"]
	if address == "" {
		address = freeAddress("127.0.0.1:8080")
	}
	return config.Load([]string{
		"LISTEN_ADDR=" + address,
		"ADMIN_ADDR=127.0.0.1:0",
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

// reachable returns the address by which this machine reaches a listener, which
// may be bound to all addresses.
func reachable(addr net.Addr) string {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok || !tcp.IP.IsUnspecified() {
		return addr.String()
	}
	return fmt.Sprintf("127.0.0.1:%d", tcp.Port)
}

// freeAddress returns the address, or one with a port that the system chooses
// if another program has that.
func freeAddress(address string) string {
	listener, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		host, _, _ := strings.Cut(address, ":")
		return fmt.Sprintf("%s:0", host)
	}
	if err == nil {
		_ = listener.Close()
	}
	return address
}
