package wire

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Printable returns the text with all unprintable characters escaped: control and
// format characters, line and paragraph separators, unassigned code points, and
// bytes that are not UTF-8. Some of these are commands for a terminal, or reverse the
// direction of the text. The escapes are Go's, such as \n, \x9b and \u202e. A
// backslash stays as it is, so the original text cannot always be recovered.
func Printable(text string) string {
	for i, r := range text {
		if !isPrintable(r, text[i:]) {
			return text[:i] + escape(text[i:])
		}
	}
	return text
}

// isPrintable reports whether r, the first character of rest, needs no escape.
func isPrintable(r rune, rest string) bool {
	return unicode.IsPrint(r) && (r != utf8.RuneError || strings.HasPrefix(rest, "\uFFFD"))
}

func escape(text string) string {
	var escaped strings.Builder
	for i, r := range text {
		if isPrintable(r, text[i:]) {
			escaped.WriteRune(r)
			continue
		}
		_, size := utf8.DecodeRuneInString(text[i:])
		quoted := strconv.QuoteToASCII(text[i : i+size])
		escaped.WriteString(quoted[1 : len(quoted)-1])
	}
	return escaped.String()
}
