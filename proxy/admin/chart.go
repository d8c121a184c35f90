package admin

import (
	"fmt"
	"math"
	"strconv"

	g "maragu.dev/gomponents"
	h "maragu.dev/gomponents/html"

	"hubspot-auth-proxy/proxy/activity"
)

// The chart's size in its own units. The page stretches the chart.
const (
	chartHeight = 100
	barStep     = 10 // the distance between two minutes
	barWidth    = 8

	// leastBar is the smallest height of a bar. With this height every bar is visible.
	leastBar = 2
)

// A chart shows the calls of the last hour as bars.
type chart struct {
	Calls, Errors int64 // totals
	Peak          int64 // the largest number of calls in a minute
	Width, Height int
	Bars          []chartBar
}

// A chartBar shows one minute that had calls.
type chartBar struct {
	X, Width    int
	Top, Height float64 // the bar of all calls
	Errors      float64 // the height of the errors' part, at the bottom
	ErrorsTop   float64
	Text        string
}

// newChart returns the chart of the minutes. The last minute is the current one.
func newChart(minutes []activity.Minute) *chart {
	c := &chart{Width: barStep * len(minutes), Height: chartHeight}
	for _, m := range minutes {
		c.Peak = max(c.Peak, m.Calls)
	}
	for i, m := range minutes {
		if m.Calls <= 0 {
			continue
		}
		failed := min(max(m.Errors, 0), m.Calls) // calls and errors are counted one after the other
		c.Calls += m.Calls
		c.Errors += failed
		bar := chartBar{X: i * barStep, Width: barWidth, Height: barHeight(m.Calls, c.Peak), Errors: barHeight(failed, c.Peak)}
		bar.Top, bar.ErrorsTop = chartHeight-bar.Height, chartHeight-bar.Errors
		bar.Text = fmt.Sprintf("%s: %s", minutesAgo(len(minutes)-1-i), callsAndErrors(m.Calls, failed))
		c.Bars = append(c.Bars, bar)
	}
	return c
}

// barHeight returns the height of the bar for n calls, rounded to a tenth of a unit.
func barHeight(n, peak int64) float64 {
	if n == 0 {
		return 0
	}
	return max(leastBar, math.Round(10*chartHeight*float64(n)/float64(peak))/10)
}

// Text describes the chart in words.
func (c *chart) Text() string {
	if c.Calls == 0 {
		return "No calls in the last hour."
	}
	text := callsAndErrors(c.Calls, c.Errors)
	if c.Errors > 0 {
		text += " (" + percent(c.Errors, c.Calls) + ")"
	}
	return text + ", at most " + grouped(c.Peak) + " a minute."
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

func callsAndErrors(calls, failed int64) string {
	if failed == 0 {
		return counted(calls, "call") + ", no error"
	}
	return counted(calls, "call") + ", " + counted(failed, "error")
}

func minutesAgo(n int) string {
	if n == 0 {
		return "This minute"
	}
	return strconv.Itoa(n) + " min ago"
}

// percent returns a share in words. A small share is never shown as 0 %.
func percent(part, whole int64) string {
	share := 100 * float64(part) / float64(whole)
	switch {
	case share < 0.1:
		return "less than 0.1 %"
	case share < 10:
		return fmt.Sprintf("%.1f %%", share)
	default:
		return fmt.Sprintf("%.0f %%", share)
	}
}
