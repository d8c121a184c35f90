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

// A search is the search in the status page's address: /?q=acme&state=ended&page=2.
type search struct {
	Text  string
	State string // a tokens.State; empty means all portals that are not removed
	Page  int    // from 1

	Pages  int      // the number of pages
	States []choice // the states to choose from
}

// A choice is a state that a person may search by.
type choice struct{ Value, Text string }

// newSearch reads the parameters. An unknown state finds nothing. If the page does not exist, the
// nearest page is shown.
func newSearch(query url.Values) search {
	page, err := strconv.Atoi(query.Get("page"))
	if err != nil || page < 1 {
		page = 1
	}
	return search{Text: clip(query.Get("q"), maxText), State: clip(query.Get("state"), maxText), Page: min(page, maxPages)}
}

// maxPages limits the number of a page, so that calculations with it cannot overflow.
const maxPages = 1_000_000

// any reports whether the search selects only some of the portals.
func (s search) any() bool { return s.Text != "" || s.State != "" }

func (s search) query() tokens.Query {
	return tokens.Query{Text: s.Text, State: tokens.State(s.State), First: (s.Page - 1) * maxPortals, Most: maxPortals}
}

// found sets Pages and States from the result.
func (s *search) found(o tokens.Overview) {
	s.Pages = max(1, (o.Found+maxPortals-1)/maxPortals)
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

// form returns the search form, which works without scripts.
func (s search) form() g.Node {
	return h.Form(h.Class("search"), h.Role("search"), h.Action("/"), h.Method("get"),
		h.Label(g.Text("Id or name "), h.Input(h.Type("search"), h.Name("q"), h.Value(s.Text), h.MaxLength(strconv.Itoa(maxText)), h.AutoComplete("off"))),
		h.Label(g.Text("State "), h.Select(h.Name("state"), g.Map(s.States, func(c choice) g.Node {
			return h.Option(h.Value(c.Value), g.If(c.Value == s.State, h.Selected()), g.Text(c.Text))
		}))),
		h.Button(h.Class("button"), h.Type("submit"), g.Text("Search")),
		g.If(s.any(), h.A(h.Href("/"), g.Text("Show all"))),
	)
}

// pager returns the links to the other pages.
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
