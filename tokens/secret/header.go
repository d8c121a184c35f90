package secret

import "strings"

// HeaderUnsafe returns the index of the first byte in text that a credential in a header
// field cannot have, or -1 if there is none. A credential consists of visible ASCII
// characters (RFC 6750 section 2.1).
func HeaderUnsafe(text string) int {
	return strings.IndexFunc(text, func(c rune) bool { return c <= ' ' || c > '~' })
}
