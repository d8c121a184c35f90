package admin

import (
	"cmp"
	"fmt"
	"net/url"
	"strconv"

	g "maragu.dev/gomponents"
	h "maragu.dev/gomponents/html"

	"hubspot-auth-proxy/tokens/hubspot"
)

// page returns the status page.
func (d statusData) page() page {
	return page{
		Title: d.Title,
		Live:  true,
		Wide:  true,
		Heading: h.Header(h.Class("top"), h.H1(g.Text(d.Title)),
			g.If(d.SetUp, h.A(h.Class("button"), h.Href("/connect"), g.Text("Connect a portal")))),
		Content: []g.Node{
			d.tagsNode(),
			g.Map(d.Notices, func(n notice) g.Node { return h.P(h.Class("notice "+n.Level), h.Span(g.Text(n.Text))) }),
			g.Iff(d.Chart != nil, func() g.Node { return d.Chart.node() }),
			g.Iff(d.Activity != nil, func() g.Node { return usage(d.Activity) }),
			h.H2(g.Text("Portals")),
			d.Search.form(),
			soft(d.About),
			g.If(!d.SetUp, soft("To connect portals by a click, set "+whatToSet+".")),
			g.If(len(d.Portals) > 0, h.Ul(h.Class("rows"), g.Map(d.Portals, portalRow.node))),
			d.Search.pager(),
			g.If(len(d.Clients) > 0, g.Group{h.H2(g.Text("Client keys")), h.Ul(h.Class("rows"), g.Group(d.Clients))}),
			g.If(d.MoreKeys > 0, soft(fmt.Sprintf("And %d more; the command “hubspot-auth-proxy client list” shows those in Redis.", d.MoreKeys))),
		},
	}
}

func (d statusData) tagsNode() g.Node {
	return h.Ul(h.Class("tags"), h.Aria("label", "The proxy"),
		g.Map(d.Tags, func(t tag) g.Node { return h.Li(h.Class("tag "+t.Level), g.Text(t.Text)) }),
		h.Li(h.Class("soft"), g.Text("as of "+d.Clock), h.NoScript(g.Text(" · "), h.A(h.Href(d.Search.address(d.Search.Page)), g.Text("update")))),
		g.If(d.HasMetrics, h.Li(h.A(h.Href("/metrics"), g.Text("Metrics")))),
	)
}

func (r portalRow) node() g.Node {
	kind := r.Kind
	if r.Name != "" {
		kind = r.ID + " · " + r.Kind
	}
	return h.Li(h.Class("portal"), h.ID("portal-"+r.ID),
		h.Div(r.title(), small(kind)),
		h.Div(
			h.Span(h.Class("tag "+r.Level), g.Text(r.State)),
			g.If(r.Note != "", h.P(h.Class("small"), g.Text(r.Note))),
			g.If(r.Connect, h.P(h.A(h.Class("button small"), h.Href("/connect?portal="+url.QueryEscape(r.ID)), g.Text("Connect "+r.ID+" again")))),
		),
		h.Div(
			g.If(r.Left >= 0, svg("bar "+r.Level, 100, 1, h.Role("img"), h.Aria("label", fmt.Sprintf("%d %% of the token's life is left", r.Left)),
				rect("", 0, 0, float64(r.Left), 1))),
			h.P(h.Class("ends soft small"), h.Span(g.Text(r.Life)), h.Span(g.Text(r.Renewed))),
			g.If(r.Limit != "", small("limit: "+r.Limit)),
		),
	)
}

// title returns the portal's name or id, as a link to the portal's page.
func (r portalRow) title() g.Node {
	title := h.Strong(g.Text(cmp.Or(r.Name, r.ID)))
	if !hubspot.ValidPortal(r.ID) {
		return title // the environment's static credential may have no portal id
	}
	return h.A(h.Href("/portals/"+r.ID), title)
}

func (c *chart) node() g.Node {
	text := c.Text()
	return g.Group{
		h.H2(g.Text("Calls of the last hour")),
		soft(text),
		g.If(len(c.Bars) > 0, h.Figure(
			svg("chart", c.Width, c.Height, h.Role("img"), h.Aria("label", "Calls and errors, minute by minute. "+text),
				g.Map(c.Bars, chartBar.node)),
			h.Div(h.Class("ends soft small"), h.Span(g.Text("60 min ago")), h.Span(g.Text("now"))),
			h.FigCaption(h.Class("soft small"),
				key("calls"), g.Text("calls of this process, of which "),
				key("errors"), g.Text("errors: status 401, 429 and 5xx, and calls that the proxy itself refused")),
		)),
	}
}

func (b chartBar) node() g.Node {
	x, width := float64(b.X), float64(b.Width)
	return g.El("g", g.El("title", g.Text(b.Text)),
		rect("calls", x, b.Top, width, b.Height),
		g.If(b.Errors > 0, rect("errors", x, b.ErrorsTop, width, b.Errors)))
}

func soft(text string) g.Node { return h.P(h.Class("soft"), g.Text(text)) }

func small(text string) g.Node { return h.P(h.Class("soft small"), g.Text(text)) }

// key is a square in a colour of the chart, for the legend.
func key(class string) g.Node {
	return svg("key", 1, 1, h.Aria("hidden", "true"), rect(class, 0, 0, 1, 1))
}

// svg is a drawing that is stretched to the size of its class.
func svg(class string, width, height int, children ...g.Node) g.Node {
	return g.El("svg", h.Class(class), g.Attr("viewBox", fmt.Sprintf("0 0 %d %d", width, height)),
		g.Attr("preserveAspectRatio", "none"), g.Group(children))
}

func rect(class string, x, y, width, height float64) g.Node {
	number := func(name string, value float64) g.Node { return g.Attr(name, strconv.FormatFloat(value, 'f', -1, 64)) }
	return g.El("rect", h.Class(class), number("x", x), number("y", y), number("width", width), number("height", height))
}
