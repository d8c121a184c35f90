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

	"hubspot-auth-proxy/proxy"
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
	d := portalData{portalRow: newPortalRow(p, now, a.states != nil), Clock: clock(now), Events: eventRows(p, now)}
	d.Clients, d.MoreKeys = a.clientRows(id, now)
	if a.options.Activity != nil {
		d.Limit = limitText(a.options.Activity, id, now)
		d.Failures = a.options.Activity.Failures(id)
	}
	scopes := strings.Fields(p.Scopes)
	d.Scopes = scopes[:min(len(scopes), maxScopes)]
	show(w, http.StatusOK, d.page())
}

func noSuchPortal(w http.ResponseWriter) {
	show(w, http.StatusNotFound, message{
		Title: "No such portal",
		Text:  []string{"There is no record of a portal with this id."},
		Home:  true,
	}.page())
}

// portalData is the data of the page of a portal.
type portalData struct {
	portalRow
	Clock    string
	Events   []g.Node // rows, the newest first
	Limit    string   // HubSpot's limit, as last seen; empty means that none was seen
	Clients  []g.Node // rows
	MoreKeys int
	Failures []proxy.Failure
	Scopes   []string // the grant's scopes; empty means not known
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
			soft(cmp.Or(d.Limit, "No limit was seen yet.")),
			h.H2(g.Text("History")),
			g.If(len(d.Events) == 0, soft("No events are stored.")),
			g.If(len(d.Events) > 0, h.Ul(h.Class("rows"), g.Group(d.Events))),
			h.H2(g.Text("Scopes")),
			d.scopes(),
			h.H2(g.Text("Clients that may use this portal")),
			g.If(len(d.Clients) == 0, soft("No client has a key for this portal.")),
			g.If(len(d.Clients) > 0, h.Ul(h.Class("rows"), g.Group(d.Clients))),
			g.If(d.MoreKeys > 0, soft("And "+grouped(d.MoreKeys)+" more.")),
		},
	}
}

// failures shows HubSpot's last errors, with the correlation ids that HubSpot's support asks for.
func (d portalData) failures() g.Node {
	if len(d.Failures) == 0 {
		return soft("No errors. Answers with 404 are not counted.")
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

func (d portalData) scopes() g.Node {
	if len(d.Scopes) == 0 {
		return soft("Scopes are known for OAuth grants only, after their next renewal.")
	}
	return h.Ul(h.Class("scopes"), g.Map(d.Scopes, func(scope string) g.Node { return h.Li(g.Text(clip(scope, maxName))) }))
}
