package admin

import (
	"cmp"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	g "maragu.dev/gomponents"
	h "maragu.dev/gomponents/html"

	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspot"
	"hubspot-auth-proxy/tokens/store"
)

// maxScopes is the number of scopes that the page of a portal shows.
const maxScopes = 200

// portal serves the page of one portal: /portals/62515.
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
			Text:  []string{"This process does not hold portal " + id + ", so nothing is known of it until Redis answers again."},
			Home:  true,
		}.page())
		return
	}
	show(w, http.StatusOK, a.portalPage(p, now))
}

func noSuchPortal(w http.ResponseWriter) {
	show(w, http.StatusNotFound, message{
		Title: "No such portal",
		Text:  []string{"There is no record of a portal with this id."},
		Home:  true,
	}.page())
}

// eventRows returns the rows of the portal's history, the newest first.
func eventRows(p tokens.Portal, now time.Time) (rows []g.Node) {
	add := func(at time.Time, what string) {
		when := at.UTC().Format("2006-01-02 15:04:05 UTC") + ", " + Span(now.Sub(at)) + " ago"
		rows = append(rows, h.Li(h.Class("failure"), small(when), h.Span(g.Text(what))))
	}
	if !p.Set.IsZero() {
		add(p.Set, "set or connected")
	}
	for _, e := range p.Events {
		what := "HubSpot refused the grant (" + clip(strings.TrimPrefix(e.What, "ended:"), maxName) + ")"
		switch store.Cause(e.What) {
		case store.Expiry:
			what = "renewed, because the token was about to expire or had expired"
		case store.Rejection:
			what = "renewed, because HubSpot answered 401"
		}
		add(e.At, what)
	}
	slices.Reverse(rows)
	return rows
}

// limitText returns the portal's remaining calls within HubSpot's limits, as last seen. It returns
// "" if no limit was seen.
func (a *Admin) limitText(id string, now time.Time) string {
	if a.options.Activity == nil {
		return ""
	}
	l, seen := a.options.Activity.Limit(id)
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

func (a *Admin) portalPage(p tokens.Portal, now time.Time) page {
	row := newPortalRow(p, now, a.canConnect())
	title := "Portal " + row.ID
	if row.Name != "" {
		title += ": " + row.Name
	}
	keys, moreKeys := a.clientRows(p.ID, now)
	return page{
		Title:   title,
		Live:    true,
		Wide:    true,
		Heading: h.Header(h.Class("top"), h.H1(g.Text(title)), h.P(h.A(h.Href("/"), g.Text("All portals")))),
		Content: []g.Node{
			h.Ul(h.Class("rows"), row.node()),
			soft("As of " + clock(now) + ". Failures and the limit are those that this process has seen."),
			h.H2(g.Text("HubSpot's last errors")),
			rows(a.failureRows(p.ID), "No errors. Answers with 404 are not counted."),
			h.H2(g.Text("HubSpot's limit")),
			soft(cmp.Or(a.limitText(p.ID, now), "No limit was seen yet.")),
			h.H2(g.Text("History")),
			rows(eventRows(p, now), "No events are stored."),
			h.H2(g.Text("Scopes")),
			scopes(p),
			h.H2(g.Text("Clients that may use this portal")),
			rows(keys, "No client has a key for this portal."),
			g.If(moreKeys > 0, soft("And "+grouped(moreKeys)+" more.")),
			g.If(a.options.Anonymous, soft("Calls need no key.")),
		},
	}
}

// failureRows returns the rows of HubSpot's last errors, with the correlation ids that HubSpot's
// support asks for.
func (a *Admin) failureRows(id string) (rows []g.Node) {
	if a.options.Activity == nil {
		return nil
	}
	for _, f := range a.options.Activity.Failures(id) {
		status := strconv.Itoa(f.Status)
		if f.Category != "" {
			status += " " + f.Category
		}
		rows = append(rows, h.Li(h.Class("failure"),
			h.Div(h.Strong(g.Text(status)), small(f.At.UTC().Format("2006-01-02 15:04:05 UTC"))),
			h.Div(h.Span(g.Text(clip(f.Method+" "+f.Path, maxQuote))), small("client: "+clip(cmp.Or(f.Client, "anonymous"), maxName)),
				g.If(f.Correlation != "", small("correlation id: "+clip(f.Correlation, maxName)))),
		))
	}
	return rows
}

// scopes shows the grant's scopes.
func scopes(p tokens.Portal) g.Node {
	all := strings.Fields(p.Scopes)
	if len(all) == 0 {
		return soft("Scopes are known for OAuth grants only, after their next renewal.")
	}
	return h.Ul(h.Class("scopes"), g.Map(all[:min(len(all), maxScopes)], func(scope string) g.Node { return h.Li(g.Text(clip(scope, maxName))) }))
}
