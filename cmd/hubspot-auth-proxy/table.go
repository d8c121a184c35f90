package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
	"unicode"

	"hubspot-auth-proxy/proxy/admin"
)

// printTable prints rows in columns.
func printTable(w io.Writer, rows [][]string) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		for i, cell := range row {
			row[i] = shown(cell)
		}
		fmt.Fprintln(table, strings.Join(row, "\t"))
	}
	return table.Flush()
}

// shown returns text with "?" for each character that is not printable, because a name from
// Redis must not control the terminal. The empty text is shown as a dash.
func shown(text string) string {
	if text == "" {
		return "-"
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
}

// titled returns a portal's id and name, for people.
func titled(id, name string) string {
	if name == "" {
		return "portal " + id
	}
	return fmt.Sprintf("portal %s (%s)", id, shown(name))
}

// printJSON prints a value as indented JSON.
func printJSON(w io.Writer, value any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(value)
}

// relative returns a time in relation to now: "in 24 min", "3 min ago".
func relative(t, now time.Time) string {
	if t.IsZero() {
		return ""
	}
	span := t.Sub(now)
	if span > 0 {
		return "in " + admin.Span(span)
	}
	return admin.Span(-span) + " ago"
}

// count returns a number with its noun: "1 portal", "2 portals".
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// progress shows on a terminal how many items of the total are done. Call step after
// each item, and end after the last item. Both functions are safe for concurrent use.
// Without a terminal, progress shows nothing.
func progress(w io.Writer, total int, what string) (step, end func()) {
	if !isTerminal(w) || total == 0 {
		return func() {}, func() {}
	}
	const clearLine = "\r\x1b[K"
	var mu sync.Mutex
	done := 0
	show := func() { fmt.Fprintf(w, clearLine+"%s: %d/%d", what, done, total) }
	show()
	step = func() {
		mu.Lock()
		defer mu.Unlock()
		done++
		show()
	}
	end = func() {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprint(w, clearLine)
	}
	return step, end
}
