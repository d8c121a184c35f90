package admin

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"html/template"
	"net/http"
	"strings"
	"unicode"
)

// style is all that pages look like: no page loads anything.
const style = `:root{color-scheme:light dark;--ink:#1c2430;--soft:#566171;--paper:#fff;--ground:#f4f5f7;--line:#dde1e7;` +
	`--link:#1a5fb4;--good:#1b7443;--warn:#8a5300;--bad:#b3261e;--bar:#4a7fc1}` +
	`@media(prefers-color-scheme:dark){:root{--ink:#e4e7ec;--soft:#a3adba;--paper:#1c2129;--ground:#13161b;--line:#343c48;` +
	`--link:#8ab4f8;--good:#73cf9b;--warn:#efb866;--bad:#f49089;--bar:#6d9fe0}}` +
	`*{box-sizing:border-box}` +
	`body{margin:0;font:1rem/1.5 system-ui,sans-serif;color:var(--ink);background:var(--ground);overflow-wrap:anywhere}` +
	`main{max-width:38rem;margin:2rem auto;padding:1rem 1.5rem;background:var(--paper);border-radius:.5rem}` +
	`h1{font-size:1.4rem;line-height:1.25}` +
	`a{color:var(--link)}` +
	`blockquote{margin:1rem 0;padding:.25rem 1rem;border-left:.25rem solid var(--line)}` +
	statusStyle

// layout is of every page. What "content" shows gets the page's data; "head",
// "wide" and "title" are there for a page to define them otherwise.
const layout = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{.Title}}</title>
{{block "head" .}}{{end}}<style>` + style + `</style>
</head>
<body><main{{block "wide" .}}{{end}}>
{{block "title" .}}<h1>{{.Title}}</h1>{{end}}
{{template "content" .}}
</main></body>
</html>
`

// newPage returns the template of a page with that content, in the layout, and
// with the layout's other parts as they are defined there or else by more.
func newPage(content, more string) *template.Template {
	page := template.Must(template.New("page").Parse(layout + `{{define "content"}}` + content + `{{end}}`))
	return template.Must(page.Parse(more))
}

// messagePage tells one thing.
var messagePage = newPage(`{{range .Text}}<p>{{.}}</p>
{{end}}{{with .Quote}}<blockquote>{{.}}</blockquote>
{{end}}{{if .Again}}<p><a href="/connect">Start again</a></p>
{{end}}{{if .Home}}<p><a href="/">To the status page</a></p>
{{end}}`, "")

// message is what messagePage shows.
type message struct {
	Title string
	Text  []string // paragraphs
	Quote string   // what somebody else said; see quote
	Again bool     // offer a new start
	Home  bool     // offer the status page
}

// policy allows the page its style, and nothing else. HubSpot's code and the
// state are in /callback's address: nothing may be loaded that is told where
// it was loaded from, and no frame may hold the page.
var policy = func() string {
	sum := sha256.Sum256([]byte(style))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}()

// guardHeaders sets what every answer to a browser has, be it a page or not.
func guardHeaders(header http.Header) {
	header.Set("Content-Security-Policy", policy)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Cache-Control", "no-store")
}

// show answers with a page. All data is escaped by its template.
func show(w http.ResponseWriter, status int, page *template.Template, data any) {
	var body bytes.Buffer
	if err := page.Execute(&body, data); err != nil {
		status = http.StatusInternalServerError
		body.Reset()
		body.WriteString("This page is broken.")
	}
	guardHeaders(w.Header())
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(body.Bytes())
}

// maxQuote is how many characters a page shows of what others said.
const maxQuote = 300

// quote prepares what somebody else said for a page, without what is to be
// hidden, should it be repeated there.
func quote(text string, hidden ...string) string {
	for _, h := range hidden {
		if h != "" {
			text = strings.ReplaceAll(text, h, "…")
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
