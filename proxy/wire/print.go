package wire

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Printable returns the text with everything escaped that is not printable:
// control and format characters, line and paragraph separators, code points that
// are not assigned, and bytes that are not UTF-8. A terminal takes some of these
// for commands or for another direction of the text. The escapes are those of Go,
// such as \n, \x9b and \u202e; a backslash stays as it is.
func Printable(text string) string {
	for i, r := range text {
		if !isPrintable(r, text[i:]) {
			return text[:i] + escape(text[i:])
		}
	}
	return text
}

// isPrintable reports whether the character r, which rest begins with, needs no
// escape.
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
