package admin

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	g "maragu.dev/gomponents"
	h "maragu.dev/gomponents/html"

	"hubspot-auth-proxy/proxy"
	"hubspot-auth-proxy/proxy/clients"
	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspot"
	"hubspot-auth-proxy/tokens/store"
)

// mostScopes is how many scopes the page of a portal shows.
const mostScopes = 200

// portal shows one portal: /portals/62515.
func (a *Admin) portal(w http.ResponseWriter, r *http.Request) {
	id, now := r.PathValue("id"), a.now()
	if !hubspot.ValidPortal(id) || a.options.Portals == nil {
		noSuchPortal(w)
		return
	}
	p, err := a.options.Portals.Portal(r.Context(), id)
	switch {
	case errors.Is(err, tokens.ErrNotConnected):
		noSuchPortal(w)
		return
	case err != nil:
		show(w, http.StatusServiceUnavailable, message{
			Title: "Redis does not answer",
			Text:  []string{"This process does not hold portal " + id + ", so that nothing is known of it until Redis is back."},
			Home:  true,
		}.page())
		return
	}
	d := portalData{portalRow: newPortalRow(p, now, a.states != nil), Clock: clock(now), Events: eventRows(p, now)}
	d.Clients, d.MoreKeys = a.clientsOf(id, now)
	if a.options.Activity != nil {
		d.Limit = limitText(a.options.Activity, id, now)
		d.Failures = a.options.Activity.Failures(id)
	}
	scopes := strings.Fields(p.Scopes)
	d.Scopes = scopes[:min(len(scopes), mostScopes)]
	show(w, http.StatusOK, d.page())
}

func noSuchPortal(w http.ResponseWriter) {
	show(w, http.StatusNotFound, message{
		Title: "No such portal",
		Text:  []string{"There is no record of a portal with this id."},
		Home:  true,
	}.page())
}

// clientsOf returns the clients that may use the portal.
func (a *Admin) clientsOf(id string, now time.Time) (rows []clientRow, more int) {
	if a.options.Callers == nil {
		return nil, 0
	}
	all := slices.DeleteFunc(slices.Clone(a.options.Callers()), func(c clients.Client) bool {
		return !slices.Contains(c.Portals, id) && !slices.Contains(c.Portals, clients.AllPortals)
	})
	return clientRows(all, a.options.Activity, now)
}

// portalData is what the page of a portal shows.
type portalData struct {
	portalRow
	Clock    string
	Events   []eventRow // the newest first
	Limit    string     // empty: none was seen
	Clients  []clientRow
	MoreKeys int
	Failures []proxy.Failure
	Scopes   []string // of the grant; empty: not known
}

// An eventRow is what happened to the portal's credential.
type eventRow struct{ When, What string }

// eventRows returns the portal's history, the newest first.
func eventRows(p tokens.Portal, now time.Time) (rows []eventRow) {
	if !p.Set.IsZero() {
		rows = append(rows, eventRow{when(p.Set, now), "set or connected"})
	}
	for _, e := range p.Events {
		what := "HubSpot ended the grant (" + clip(strings.TrimPrefix(e.What, "ended:"), maxName) + ")"
		switch store.Cause(e.What) {
		case store.Expiry:
			what = "renewed, because the token was about to expire or had expired"
		case store.Rejection:
			what = "renewed, because HubSpot answered 401"
		}
		rows = append(rows, eventRow{when(e.At, now), what})
	}
	slices.Reverse(rows)
	return rows
}

// when says when something was, by the clock and as people do.
func when(t, now time.Time) string {
	return t.UTC().Format("2006-01-02 15:04:05 UTC") + ", " + Span(now.Sub(t)) + " ago"
}

// limitText says what was left of HubSpot's limits when HubSpot last said so.
func limitText(a *proxy.Activity, id string, now time.Time) string {
	l, seen := a.Limit(id)
	if !seen {
		return ""
	}
	var parts []string
	if l.Remaining >= 0 {
		text := counted(l.Remaining, "call") + " left"
		if l.Max >= 0 {
			text = grouped(l.Remaining) + " of " + counted(l.Max, "call") + " left"
		}
		if l.Interval > 0 {
			text += " in " + strconv.FormatFloat(l.Interval.Seconds(), 'f', -1, 64) + " s"
		}
		parts = append(parts, text)
	}
	if l.DailyRemaining >= 0 {
		text := grouped(l.DailyRemaining)
		if l.Daily >= 0 {
			text += " of " + grouped(l.Daily)
		}
		parts = append(parts, text+" left today")
	}
	return strings.Join(parts, ", ") + "; seen " + Span(now.Sub(l.Seen)) + " ago"
}

func (d portalData) page() page {
	title := "Portal " + d.ID
	if d.Name != "" {
		title += ": " + d.Name
	}
	return page{
		Title:   title,
		Live:    true,
		Wide:    true,
		Heading: h.Header(h.Class("top"), h.H1(g.Text(title)), h.P(h.A(h.Href("/"), g.Text("All portals")))),
		Content: []g.Node{
			h.Ul(h.Class("rows"), d.portalRow.node()),
			soft("As of " + d.Clock + ". Failures and the limit are those that this process has seen."),
			h.H2(g.Text("HubSpot's last errors")),
			d.failures(),
			h.H2(g.Text("HubSpot's limit")),
			soft(cmp.Or(d.Limit, "None was seen yet.")),
			h.H2(g.Text("History")),
			d.history(),
			h.H2(g.Text("Scopes")),
			d.scopes(),
			h.H2(g.Text("Clients that may use it")),
			g.If(len(d.Clients) == 0, soft("None has a key for it.")),
			g.If(len(d.Clients) > 0, h.Ul(h.Class("rows"), g.Map(d.Clients, clientRow.node))),
			g.If(d.MoreKeys > 0, soft("And "+grouped(d.MoreKeys)+" more.")),
		},
	}
}

// failures shows what HubSpot refused, and the ids that its support asks for.
func (d portalData) failures() g.Node {
	if len(d.Failures) == 0 {
		return soft("None, except for what does not exist (404).")
	}
	return h.Ul(h.Class("rows"), g.Map(d.Failures, func(f proxy.Failure) g.Node {
		status := strconv.Itoa(f.Status)
		if f.Category != "" {
			status += " " + f.Category
		}
		return h.Li(h.Class("failure"),
			h.Div(h.Strong(g.Text(status)), small(f.At.UTC().Format("2006-01-02 15:04:05 UTC"))),
			h.Div(h.Span(g.Text(clip(f.Method+" "+f.Path, maxQuote))), small("client: "+clip(cmp.Or(f.Client, "anonymous"), maxName)),
				g.If(f.Correlation != "", small("correlation id: "+clip(f.Correlation, maxName)))),
		)
	}))
}

func (d portalData) history() g.Node {
	if len(d.Events) == 0 {
		return soft("Nothing is noted.")
	}
	return h.Ul(h.Class("rows"), g.Map(d.Events, func(e eventRow) g.Node {
		return h.Li(h.Class("failure"), small(e.When), h.Span(g.Text(e.What)))
	}))
}

func (d portalData) scopes() g.Node {
	if len(d.Scopes) == 0 {
		return soft("They are known of OAuth grants only, from their next renewal on.")
	}
	return h.Ul(h.Class("scopes"), g.Map(d.Scopes, func(scope string) g.Node { return h.Li(g.Text(clip(scope, maxName))) }))
}

// shareOf says how many calls a client made in the last hour.
func shareOf(a *proxy.Activity) map[string]int64 {
	calls := make(map[string]int64)
	if a != nil {
		for _, c := range a.Clients() {
			calls[c.Client] = c.Calls
		}
	}
	return calls
}

// usage shows the clients' calls of the last hour.
func usage(a *proxy.Activity) g.Node {
	all := a.Clients()
	if len(all) == 0 {
		return nil
	}
	shown := all[:min(len(all), mostUsage)]
	return g.Group{
		h.H3(g.Text("By client")),
		h.Ul(h.Class("usage"), g.Map(shown, func(c proxy.ClientCalls) g.Node {
			return h.Li(g.Text(fmt.Sprintf("%s: %s", clip(cmp.Or(c.Client, "anonymous"), maxName), counted(c.Calls, "call"))))
		})),
		g.If(len(all) > len(shown), soft("And "+counted(len(all)-len(shown), "more client")+".")),
	}
}

// mostUsage is how many clients' calls the status page shows.
const mostUsage = 20
