package admin

import (
	"bufio"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"net/http"
	"strings"
	"unicode"

	g "maragu.dev/gomponents"
	h "maragu.dev/gomponents/html"
)

// style is the style of all pages. Like the script, it is part of the page, so that both
// are of the page's version, and a page loads nothing.
//
//go:embed page.css
var style string

// script keeps a page up to date.
//
//go:embed page.js
var script string

// A page is what a browser is shown. Its nodes escape all text that they are
// given. They are no text/template: that calls methods by their names, so that
// the linker would have to keep every method of every type.
type page struct {
	Title   string
	Live    bool // the page keeps itself up to date, and may have a form
	Wide    bool
	Heading g.Node // nil: the title
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

// stale says that the page could not be brought up to date. The script shows it.
func stale() g.Node {
	return h.P(h.ID("stale"), h.Class("notice bad"), h.Role("status"), g.Attr("hidden"),
		h.Span(g.Text("The proxy does not answer. This page shows what it answered last.")))
}

// message is a page that tells one thing.
type message struct {
	Title string
	Text  []string // paragraphs
	Quote string   // what somebody else said; see quote
	Again bool     // offer a new start
	Home  bool     // offer the status page
}

func (m message) page() page {
	return page{Title: m.Title, Content: []g.Node{
		g.Map(m.Text, func(text string) g.Node { return h.P(g.Text(text)) }),
		g.If(m.Quote != "", h.BlockQuote(g.Text(m.Quote))),
		g.If(m.Again, h.P(h.A(h.Href("/connect"), g.Text("Start again")))),
		g.If(m.Home, h.P(h.A(h.Href("/"), g.Text("To the status page")))),
	}}
}

// policy allows a page its style, and nothing else. HubSpot's code and the
// state are in /callback's address: nothing may be loaded that is told where
// it was loaded from, and no frame may hold the page.
var policy = "default-src 'none'; style-src " + hashOf(style) + "; base-uri 'none'; frame-ancestors 'none'; form-action 'none'"

// livePolicy allows a page its script too, which may ask for the page, and a form.
var livePolicy = "default-src 'none'; style-src " + hashOf(style) + "; base-uri 'none'; frame-ancestors 'none'; form-action 'self'; " +
	"script-src " + hashOf(script) + "; connect-src 'self'"

// hashOf names what stands in a page to a policy.
func hashOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// guardHeaders sets what every answer to a browser has, be it a page or not.
func guardHeaders(header http.Header) {
	header.Set("Content-Security-Policy", policy)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Cache-Control", "no-store")
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
	_ = p.node().Render(buffered) // fails only if nobody reads it
	_ = buffered.Flush()
}

// maxQuote is how many characters a page shows of what others said.
const maxQuote = 300

// quote prepares what somebody else said for a page, without what is to be
// hidden, should it be repeated there.
func quote(text string, hidden ...string) string {
	for _, secret := range hidden {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "…")
		}
	}
	return clip(text, maxQuote)
}

// clip makes of a text one line of at most that many characters.
func clip(text string, most int) string {
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) { // bidirectional controls too, which turn a text around
			return ' '
		}
		return r
	}, text)
	text = strings.TrimSpace(text)
	if runes := []rune(text); len(runes) > most {
		text = string(runes[:most-1]) + "…"
	}
	return text
}
