package admin

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	g "maragu.dev/gomponents"
	h "maragu.dev/gomponents/html"

	"hubspot-auth-proxy/proxy/activity"
	"hubspot-auth-proxy/proxy/clients"
)

const (
	// maxClients is the number of clients that a page shows.
	maxClients = 100

	// maxNamed is the number of a client's portals that the page names.
	maxNamed = 8

	// maxUsage is the number of clients whose calls the status page shows.
	maxUsage = 20
)

// clientRows returns the rows of the first clients by name, and the number of further clients.
// It selects the clients that may use the portal. If portal is empty, it selects all clients.
func (a *Admin) clientRows(portal string, now time.Time) (rows []g.Node, more int) {
	if a.options.Clients == nil {
		return nil, 0
	}
	all := slices.DeleteFunc(slices.Clone(a.options.Clients()), func(c clients.Client) bool {
		return portal != "" && !slices.Contains(c.Portals, portal) && !slices.Contains(c.Portals, clients.AllPortals)
	})
	slices.SortStableFunc(all, func(a, b clients.Client) int { return cmp.Compare(a.Name, b.Name) })
	calls := make(map[string]int64) // in the last hour
	if a.options.Activity != nil {
		for _, c := range a.options.Activity.Clients() {
			calls[c.Client] = c.Calls
		}
	}
	shown := all[:min(len(all), maxClients)]
	for _, c := range shown {
		rows = append(rows, clientRow(c, calls[c.Name], now))
	}
	return rows, len(all) - len(shown)
}

func clientRow(c clients.Client, calls int64, now time.Time) g.Node {
	text := portalsOf(c)
	if c.ReadOnly {
		text += ", read only"
	}
	if len(c.Paths) > 0 {
		text += fmt.Sprintf(", paths: %d", len(c.Paths))
	}
	if c.Seeded {
		text += ", from the seed file"
	}
	if calls > 0 {
		text += ", " + counted(calls, "call") + " in the last hour"
	}
	row := g.Group{h.Strong(g.Text(clip(c.Name, maxName))), soft(text)}
	switch expiry := expiryOf(c, now); {
	case c.ExpiresSoon(now):
		row = append(row, h.Strong(g.Text(expiry+": make a new key with the command “hubspot-auth-proxy client rotate”, or in the seed file")))
	case expiry != "":
		row = append(row, soft(expiry))
	}
	return h.Li(h.Class("client"), row)
}

// expiryOf returns the expiry of a client's key in words, or "" if the key does not expire.
func expiryOf(c clients.Client, now time.Time) string {
	switch {
	case c.Expires.IsZero():
		return ""
	case !now.Before(c.Expires):
		return "key has expired"
	}
	return "key expires in " + Span(c.Expires.Sub(now))
}

// portalsOf describes in words which portals a client may use.
func portalsOf(c clients.Client) string {
	if slices.Contains(c.Portals, clients.AllPortals) {
		return "all portals"
	}
	named := c.Portals[:min(len(c.Portals), maxNamed)]
	text := "portal "
	if len(c.Portals) != 1 {
		text = "portals "
	}
	text += strings.Join(named, ", ")
	if more := len(c.Portals) - len(named); more > 0 {
		text += " and " + grouped(more) + " more"
	}
	return clip(text, maxQuote)
}

// usage shows the clients' calls of the last hour.
func usage(l *activity.Log) g.Node {
	all := l.Clients()
	if len(all) == 0 {
		return nil
	}
	shown := all[:min(len(all), maxUsage)]
	return g.Group{
		h.H3(g.Text("By client")),
		h.Ul(h.Class("usage"), g.Map(shown, func(c activity.ClientCalls) g.Node {
			return h.Li(g.Text(fmt.Sprintf("%s: %s", clip(cmp.Or(c.Client, "anonymous"), maxName), counted(c.Calls, "call"))))
		})),
		g.If(len(all) > len(shown), soft("And "+counted(len(all)-len(shown), "more client")+".")),
	}
}
