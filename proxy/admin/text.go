package admin

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	// maxName is the number of characters of a name that a page shows.
	maxName = 100

	// maxQuote is the number of characters that a page shows of a text that the browser or
	// HubSpot sent.
	maxQuote = 300
)

// quote returns a text of the browser or of HubSpot as a page shows it: without the secrets in
// hidden, as one line, and cut to maxQuote characters.
func quote(text string, hidden ...string) string {
	for _, secret := range hidden {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "…")
		}
	}
	return clip(text, maxQuote)
}

// clip returns the text as one line without control characters, cut to the number most of
// characters.
func clip(text string, most int) string {
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) { // including bidirectional controls, which reverse the text
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

// sentence returns an error's text as a sentence: with a capital letter and a full stop.
func sentence(text string) string {
	text = strings.TrimSuffix(clip(text, maxQuote), ".")
	_, first := utf8.DecodeRuneInString(text)
	return strings.ToUpper(text[:first]) + text[first:] + "."
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
