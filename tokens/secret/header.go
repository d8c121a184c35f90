package secret

import "strings"

// HeaderUnsafe returns the index of the first byte of the text that no credential
// has in a header field, and -1 if there is none: a credential consists of visible
// ASCII characters (RFC 6750 section 2.1).
func HeaderUnsafe(text string) int {
	return strings.IndexFunc(text, func(c rune) bool { return c <= ' ' || c > '~' })
}
