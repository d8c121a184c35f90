package main

import (
	"context"
	"io"
	"strings"

	"hubspot-auth-proxy/config"
	"hubspot-auth-proxy/tokens/hubspottest"
)

// allCommands returns all commands, in the order of the help.
func allCommands() []command {
	return []command{
		{name: "serve", summary: "run the proxy, with its settings from the environment", manual: serveManual,
			open: flagless(func(ctx context.Context, c *call) error { return serve(ctx, c.environ, c.stderr) })},
		{name: "demo", summary: "run the proxy against a fake HubSpot, with curl lines to try", manual: demoManual,
			open: flagless(func(ctx context.Context, c *call) error { return demo(ctx, c.environ, c.stdout, c.stderr) })},
		{name: "portal set", args: "ID KIND [--name NAME] [--file PATH] [--force]", summary: "store a portal's credential",
			manual: portalSetManual, least: 2, most: 2, open: portalSet},
		{name: "portal list", args: "[--all] [--json]", summary: "list the portals",
			manual: portalListManual, open: portalList},
		{name: "portal show", args: "ID [--json]", summary: "print what is known about a portal",
			manual: portalShowManual, least: 1, most: 1, open: portalShow},
		{name: "portal check", args: "ID|--all [--json]", summary: "ask HubSpot which portal a credential belongs to",
			manual: portalCheckManual, most: 1, open: portalCheck},
		{name: "portal link", args: "--portal ID|--any", summary: "print a link that connects a portal",
			manual: portalLinkManual, open: portalLink},
		{name: "portal remove", args: "ID [--revoke|--force]", summary: "remove a portal's credential",
			manual: portalRemoveManual, least: 1, most: 1, open: portalRemove},
		{name: "client add", args: "NAME --portals ID,ID|'*' [--read-only] [--paths /PATH,/PATH] [--expires DAY] [--daily-limit N] [--replace]", summary: "make a client with a key",
			manual: clientAddManual, least: 1, most: 1, open: clientAdd},
		{name: "client rotate", args: "NAME [--overlap 24h] [--expires DAY]", summary: "give a client another key",
			manual: clientRotateManual, least: 1, most: 1, open: clientRotate},
		{name: "client list", args: "[--json]", summary: "list the clients",
			manual: clientListManual, open: clientList},
		{name: "client remove", args: "NAME", summary: "remove a client",
			manual: clientRemoveManual, least: 1, most: 1, open: flagless(clientRemove)},
		{name: "usage", args: "[--days N] [--json]", summary: "print how many calls clients have sent, day by day",
			manual: usageManual, open: usage},
		{name: "keys generate", args: "ID", summary: "make a key for ENCRYPTION_KEYS",
			manual: keysGenerateManual, least: 1, most: 1, open: flagless(keysGenerate)},
		{name: "keys rotate", summary: "seal all secrets again, with the first key",
			manual: keysRotateManual, open: flagless(keysRotate)},
		{name: "ca generate", args: "--out DIR", summary: "make a CA for clients whose base URL cannot be changed",
			manual: caGenerateManual, open: caGenerate},
		{name: "config", summary: "print every setting, its value and its source", manual: configManual,
			open: flagless(func(_ context.Context, c *call) error { return printConfig(c.environ, c.stdout) })},
		{name: "healthcheck", args: "[--live]", summary: "ask the proxy on this machine whether it is ready",
			manual: healthcheckManual, open: healthcheck},
		{name: "version", summary: "print the version", manual: "Prints the versions of the program and of Go, and the system that it was built for.\n",
			open: flagless(func(_ context.Context, c *call) error { return printVersion(c.stdout) })},
	}
}

const serveManual = `Runs the proxy until SIGTERM or Ctrl-C, and then finishes the requests under way.

  HUBSPOT_ACCESS_TOKEN=pat-na1-… hubspot-auth-proxy
  curl http://127.0.0.1:8080/crm/v3/objects/contacts
`

const demoManual = `Runs a fake HubSpot, an embedded Redis and the proxy in one process, and prints curl
lines to try. Only LISTEN_ADDR and the log's settings are read from the environment. If
another program has port 8080 or 8081, the demo takes a free port instead; the curl lines
have the right one. Commands such as portal set cannot reach the demo, because all its
data is in its own memory. The fake HubSpot knows one app:

  HUBSPOT_CLIENT_ID=` + hubspottest.ClientID + `
  HUBSPOT_CLIENT_SECRET=` + hubspottest.ClientSecret + `
`

const configManual = `Prints every setting, its value and its source. Secrets are printed as [redacted]. The
defaults of MAX_CONNECTIONS, MAX_REQUESTS, ALLOW_ANONYMOUS and PORTAL_DOMAIN are those
that the proxy would have here, with these settings.
`

// group returns the commands whose name begins with the word.
func group(word string) []command {
	var members []command
	for _, cmd := range allCommands() {
		if strings.HasPrefix(cmd.name, word+" ") {
			members = append(members, cmd)
		}
	}
	return members
}

// printConfig prints the settings that serve would use.
func printConfig(environ []string, stdout io.Writer) error {
	settings, err := config.Load(environ)
	if err != nil {
		return err
	}
	return settings.Print(stdout, derivedDefaults(settings))
}
