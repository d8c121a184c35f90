package admin

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"

	g "maragu.dev/gomponents"
	h "maragu.dev/gomponents/html"

	"hubspot-auth-proxy/tokens"
)

// A search is what the status page's address asks for: /?q=acme&state=ended&page=2.
type search struct {
	Text  string
	State string // of tokens; empty means all but those that were removed
	Page  int    // from 1 on

	Pages  int      // how many there are
	States []choice // that may be asked for
}

// A choice is a state that a person may search by.
type choice struct{ Value, Text string }

// newSearch reads the parameters. What makes no sense there finds nothing; a page
// that does not exist is the nearest one that does.
func newSearch(query url.Values) search {
	page, err := strconv.Atoi(query.Get("page"))
	if err != nil || page < 1 {
		page = 1
	}
	return search{Text: clip(query.Get("q"), mostText), State: clip(query.Get("state"), mostText), Page: min(page, mostPages)}
}

// mostPages keeps the number of a page from overflowing.
const mostPages = 1_000_000

// any reports whether not all portals are asked for.
func (s search) any() bool { return s.Text != "" || s.State != "" }

func (s search) query() tokens.Query {
	return tokens.Query{Text: s.Text, State: tokens.State(s.State), First: (s.Page - 1) * mostPortals, Most: mostPortals}
}

// found takes in what was found.
func (s *search) found(o tokens.Overview) {
	s.Pages = max(1, (o.Found+mostPortals-1)/mostPortals)
	s.States = []choice{{"", "all"}, {string(tokens.Attention), "needs attention"}}
	states := []tokens.State{tokens.Active, tokens.Ended, tokens.Rejected, tokens.Unusable, tokens.Removed}
	for state := range o.Counts {
		if !slices.Contains(states, state) {
			states = append(states, state)
		}
	}
	slices.Sort(states[5:])
	for _, state := range states {
		s.States = append(s.States, choice{string(state), clip(string(state), maxName)})
	}
}

// address returns the address of one of the pages.
func (s search) address(page int) string {
	query := make(url.Values)
	for name, value := range map[string]string{"q": s.Text, "state": s.State} {
		if value != "" {
			query.Set(name, value)
		}
	}
	if page > 1 {
		query.Set("page", strconv.Itoa(page))
	}
	return (&url.URL{Path: "/", RawQuery: query.Encode()}).String()
}

// form is what a person searches by. It works without scripts.
func (s search) form() g.Node {
	return h.Form(h.Class("search"), h.Role("search"), h.Action("/"), h.Method("get"),
		h.Label(g.Text("Id or name "), h.Input(h.Type("search"), h.Name("q"), h.Value(s.Text), h.MaxLength(strconv.Itoa(mostText)), h.AutoComplete("off"))),
		h.Label(g.Text("State "), h.Select(h.Name("state"), g.Map(s.States, func(c choice) g.Node {
			return h.Option(h.Value(c.Value), g.If(c.Value == s.State, h.Selected()), g.Text(c.Text))
		}))),
		h.Button(h.Class("button"), h.Type("submit"), g.Text("Search")),
		g.If(s.any(), h.A(h.Href("/"), g.Text("Show all"))),
	)
}

// pager leads to the other pages.
func (s search) pager() g.Node {
	if s.Pages == 1 && s.Page == 1 {
		return nil
	}
	return h.Nav(h.Class("ends"), h.Aria("label", "Pages of portals"),
		h.Span(g.If(s.Page > 1, h.A(h.Href(s.address(min(s.Page-1, s.Pages))), h.Rel("prev"), g.Text("Previous page")))),
		h.Span(g.Text(fmt.Sprintf("Page %s of %s", grouped(s.Page), grouped(s.Pages)))),
		h.Span(g.If(s.Page < s.Pages, h.A(h.Href(s.address(s.Page+1)), h.Rel("next"), g.Text("Next page")))),
	)
}
