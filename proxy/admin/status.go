package admin

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	g "maragu.dev/gomponents"
	h "maragu.dev/gomponents/html"

	"hubspot-auth-proxy/tokens"
)

const (
	// maxPortals is the number of portals on one page of the list.
	maxPortals = 50

	// maxText is the number of characters of a search. Further characters are ignored.
	maxText = 100
)

// A tag is a state in a few words.
type tag struct {
	Level string // "good", "idle", "warn" or "bad"
	Text  string
}

// status serves the status page.
func (a *Admin) status(w http.ResponseWriter, r *http.Request) {
	s := newSearch(r.URL.Query())
	overview := tokens.Overview{Whole: true}
	if a.options.Portals != nil {
		overview = a.options.Portals.Overview(r.Context(), s.query())
	}
	s.found(overview)
	if s.Page > s.Pages && a.options.Portals != nil {
		s.Page = s.Pages
		overview = a.options.Portals.Overview(r.Context(), s.query())
	}
	show(w, http.StatusOK, a.statusPage(overview, s, a.now()))
}

func (a *Admin) statusPage(o tokens.Overview, s search, now time.Time) page {
	const title = "hubspot-auth-proxy"
	setUp := a.canConnect()
	var portals []g.Node
	for _, portal := range o.Portals {
		row := newPortalRow(briefly(portal, o), now, setUp)
		row.Limit = a.limitText(portal.ID, now)
		portals = append(portals, row.node())
	}
	keys, moreKeys := a.clientRows("", now)
	return page{
		Title: title,
		Live:  true,
		Wide:  true,
		Heading: h.Header(h.Class("top"), h.H1(g.Text(title)),
			g.If(setUp, h.A(h.Class("button"), h.Href("/connect"), g.Text("Connect a portal")))),
		Content: []g.Node{
			a.tagsNode(o, s, now),
			g.Map(a.notices(o, now), func(text string) g.Node { return h.P(h.Class("notice bad"), h.Span(g.Text(text))) }),
			g.Iff(a.options.Activity != nil, func() g.Node {
				return g.Group{newChart(a.options.Activity.Minutes()).node(), usage(a.options.Activity)}
			}),
			h.H2(g.Text("Portals")),
			s.form(),
			soft(about(o, s)),
			g.If(!setUp, soft("To connect portals by a click, set "+a.whatToSet()+".")),
			g.If(len(portals) > 0, rows(portals, "")),
			s.pager(),
			g.If(len(keys) > 0, g.Group{h.H2(g.Text("Client keys")), rows(keys, "")}),
			g.If(moreKeys > 0, soft(fmt.Sprintf("And %d more; the command “hubspot-auth-proxy client list” shows the stored ones.", moreKeys))),
		},
	}
}

func (a *Admin) tagsNode(o tokens.Overview, s search, now time.Time) g.Node {
	return h.Ul(h.Class("tags"), h.Aria("label", "The proxy"),
		g.Map(a.tags(o), func(t tag) g.Node { return h.Li(h.Class("tag "+t.Level), g.Text(t.Text)) }),
		h.Li(h.Class("soft"), g.Text("as of "+clock(now)), h.NoScript(g.Text(" · "), h.A(h.Href(s.address(s.Page)), g.Text("update")))),
		g.If(a.options.Metrics != nil, h.Li(h.A(h.Href("/metrics"), g.Text("Metrics")))),
	)
}

func clock(now time.Time) string { return now.UTC().Format("15:04:05") + " UTC" }

// briefly shortens the failure of a portal if all portals have the same failure, because the page
// shows that failure once at the top.
func briefly(status tokens.Portal, o tokens.Overview) tokens.Portal {
	if status.Failure != "" && status.Failure == o.App {
		status.Failure, status.Retry = "tokens cannot be renewed, see above", time.Time{}
	}
	return status
}

// tags returns the states of the process, of its storage, of the portals and of the seed file.
func (a *Admin) tags(o tokens.Overview) []tag {
	process := tag{"good", "Ready"}
	switch a.state.Load().(string) {
	case starting:
		process = tag{"warn", "Starting"}
	case stopping:
		process = tag{"warn", "Stopping"}
	}
	tags := []tag{process, a.storageTag(!o.Cached), portalsTag(o)}
	if a.seedFault() != "" {
		tags = append(tags, tag{"bad", "The seed file is faulty"})
	}
	return tags
}

// portalsTag returns a tag with the number of portals that need attention.
func portalsTag(o tokens.Overview) tag {
	needAttention := 0
	for _, status := range o.Portals {
		if !status.Healthy() {
			needAttention++
		}
	}
	switch needAttention = max(needAttention, o.NeedAttention); {
	case len(o.Portals) == 0 && o.Counts.All() == 0:
		return tag{"idle", "No portal"}
	case needAttention == 0:
		return tag{"good", "All portals are healthy"}
	case needAttention == 1:
		return tag{"bad", "1 portal needs attention"}
	default:
		return tag{"bad", grouped(needAttention) + " portals need attention"}
	}
}

// notices returns the problems that concern all portals.
func (a *Admin) notices(o tokens.Overview, now time.Time) (all []string) {
	if faults := a.seedFault(); faults != "" {
		text := "The seed file cannot be used any more. Its previous content stays in use. Correct the file before a restart of the proxy, which would fail."
		for fault := range strings.Lines(faults) {
			text += " " + sentence(fault)
		}
		all = append(all, text)
	}
	if o.Cached {
		all = append(all, "Redis does not answer. The portals below are those that this process knows; they are served and renewed. "+
			"Other portals cannot be served, and no portal can be connected, until Redis answers again.")
	}
	if o.App != "" {
		all = append(all, "Tokens cannot be renewed. "+sentence(o.App)+again(o.AppRetry, now))
	}
	return all
}

// about describes which portals are shown.
func about(o tokens.Overview, s search) string {
	all := counted(o.Counts.All(), "portal")
	if o.Cached {
		all = counted(o.Found, "portal")
	}
	if !o.Whole && !o.Cached {
		all = "Records are being counted: " + all + " so far"
	}
	if removed := o.Counts[tokens.Removed]; removed > 0 {
		all += ", and " + grouped(removed) + " that " + wereRemoved(removed)
	}
	switch {
	case o.Found == 0 && s.any():
		return all + ". No portal is found."
	case o.Found == 0 && o.Cached:
		return "This process knows no portal yet."
	case o.Found == 0 && o.Counts.All() == 0 && o.Whole:
		return "No portal is connected yet."
	case s.any():
		return all + ". " + grouped(o.Found) + " found."
	case !o.Whole && !o.Cached:
		return all + "."
	default:
		return all + ". Portals that need attention come first."
	}
}

func wereRemoved(n int) string {
	if n == 1 {
		return "was removed"
	}
	return "were removed"
}
