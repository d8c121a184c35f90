package admin

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"hubspot-auth-proxy/proxy"
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
func newChart(minutes []proxy.Minute) *chart {
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

// counted returns a number with its noun: 1 call, 2 calls.
func counted[N int | int64](n N, what string) string {
	if n != 1 {
		what += "s"
	}
	return grouped(n) + " " + what
}

// grouped returns a non-negative number with commas: 12,345.
func grouped[N int | int64](n N) string {
	digits := strconv.FormatInt(int64(n), 10)
	var text strings.Builder
	for i, digit := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			text.WriteByte(',')
		}
		text.WriteRune(digit)
	}
	return text.String()
}

// Span returns a duration in words, such as 24 min. A negative duration is 0 s.
func Span(d time.Duration) string {
	switch d = max(d, 0); {
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", d/time.Hour)
	default:
		return grouped(int64(d/(24*time.Hour))) + " days"
	}
}
