package admin

import (
	"bufio"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"net/http"
	"net/url"

	g "maragu.dev/gomponents"
	h "maragu.dev/gomponents/html"
)

// style is the style of all pages. Style and script are part of each page, so that they have the
// page's version and a page loads nothing else.
//
//go:embed page.css
var style string

// script keeps a page up to date.
//
//go:embed page.js
var script string

// A page is a page for browsers. Its nodes escape all text. The pages do not use html/template,
// which calls methods by name: the linker would have to keep every method of every type.
type page struct {
	Title   string
	Live    bool // the page updates itself and may have a form
	Wide    bool
	Heading g.Node // nil means the title
	Content []g.Node
}

// node returns the page in the layout of all pages.
func (p page) node() g.Node {
	heading := p.Heading
	if heading == nil {
		heading = h.H1(g.Text(p.Title))
	}
	return h.Doctype(h.HTML(h.Lang("en"),
		h.Head(
			h.Meta(h.Charset("utf-8")),
			h.Meta(h.Name("viewport"), h.Content("width=device-width, initial-scale=1")),
			h.TitleEl(g.Text(p.Title)),
			h.StyleEl(g.Raw(style)),
		),
		h.Body(
			h.Main(g.If(p.Wide, h.Class("wide")), g.If(p.Live, stale()), heading, g.Group(p.Content)),
			g.If(p.Live, h.Script(g.Raw(script))),
		),
	))
}

// stale is a notice that the page could not be updated. It is hidden until the script shows it.
func stale() g.Node {
	return h.P(h.ID("stale"), h.Class("notice bad"), h.Role("status"), g.Attr("hidden"),
		h.Span(g.Text("The proxy does not answer. This page shows its last answer.")))
}

// message is a page with one message.
type message struct {
	Title  string
	Text   []string // paragraphs
	Quote  string   // a text that the browser or HubSpot sent; see quote
	Again  bool     // link to /connect
	Portal string   // link to /connect for this portal; empty means no such link
	Home   bool     // link to the status page
}

func (m message) page() page {
	return page{Title: m.Title, Content: []g.Node{
		g.Map(m.Text, func(text string) g.Node { return h.P(g.Text(text)) }),
		g.If(m.Quote != "", h.BlockQuote(g.Text(m.Quote))),
		g.If(m.Again, h.P(h.A(h.Href("/connect"), g.Text("Start again")))),
		g.If(m.Portal != "", h.P(h.A(h.Class("button"), h.Href("/connect?portal="+url.QueryEscape(m.Portal)), g.Text("Connect portal "+m.Portal)))),
		g.If(m.Home, h.P(h.A(h.Href("/"), g.Text("To the status page")))),
	}}
}

func soft(text string) g.Node { return h.P(h.Class("soft"), g.Text(text)) }

func small(text string) g.Node { return h.P(h.Class("soft small"), g.Text(text)) }

// rows returns a list of rows, or the text none if there are no rows.
func rows(all []g.Node, none string) g.Node {
	if len(all) == 0 {
		return soft(none)
	}
	return h.Ul(h.Class("rows"), g.Group(all))
}

// policy allows a page its style and nothing else. The address of /callback contains HubSpot's
// code and the state. So the page may load nothing, because other servers could get the address,
// and no frame may show the page.
var policy = "default-src 'none'; style-src " + hashOf(style) + "; base-uri 'none'; frame-ancestors 'none'; form-action 'none'"

// livePolicy also allows a page its script, which may fetch the page, and a form.
var livePolicy = "default-src 'none'; style-src " + hashOf(style) + "; base-uri 'none'; frame-ancestors 'none'; form-action 'self'; " +
	"script-src " + hashOf(script) + "; connect-src 'self'"

// hashOf returns the hash of a style or script for a policy.
func hashOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// guardHeaders sets the header fields that every answer to a browser has.
func guardHeaders(header http.Header) {
	header.Set("Content-Security-Policy", policy)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Cache-Control", "no-store")
}

// redirect sends the browser to an address.
func redirect(w http.ResponseWriter, address string) {
	guardHeaders(w.Header())
	w.Header().Set("Location", address)
	w.WriteHeader(http.StatusFound)
}

// show answers with a page.
func show(w http.ResponseWriter, status int, p page) {
	guardHeaders(w.Header())
	if p.Live {
		w.Header().Set("Content-Security-Policy", livePolicy)
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	buffered := bufio.NewWriter(w)
	_ = p.node().Render(buffered) // fails only if the browser has disconnected
	_ = buffered.Flush()
}
