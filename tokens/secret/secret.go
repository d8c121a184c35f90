// Package secret has the type for all tokens, keys and passwords of this program, so that
// none of them can be printed by mistake.
package secret

import (
	"crypto/subtle"
	"fmt"
	"io"
	"strings"
)

const redacted = "[redacted]"

// A Text is a secret string. Printing it, with any verb, as JSON, or as a field of another
// value, prints [redacted] or a memory address instead. Only [Text.Reveal] returns the secret
// itself.
//
// The zero value is the empty secret. A Text is immutable and safe for
// concurrent use. Do not compare Texts with ==; use [Text.Equal].
type Text struct {
	// value is a pointer because fmt cannot call the methods of a Text in an unexported
	// field of another struct. For such a field, fmt prints the address of a pointer; if
	// value were a string, fmt would print the secret.
	value *string
}

// New returns s as a secret.
func New(s string) Text {
	if s == "" {
		return Text{}
	}
	return Text{value: &s}
}

// Reveal returns the secret itself. Review each call of Reveal, because the secret may leak
// there.
func (t Text) Reveal() string {
	if t.value == nil {
		return ""
	}
	return *t.value
}

// IsZero reports whether the secret is empty.
func (t Text) IsZero() bool { return t.value == nil }

// Equal reports whether both secrets are the same. Its running time depends only on their
// lengths.
func (t Text) Equal(other Text) bool {
	return subtle.ConstantTimeCompare([]byte(t.Reveal()), []byte(other.Reveal())) == 1
}

// String returns [redacted], or an empty string if the secret is empty.
func (t Text) String() string {
	if t.IsZero() {
		return ""
	}
	return redacted
}

// Format prints the result of String for every verb, %x and %q included.
func (t Text) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, t.String()) }

// MarshalText returns the result of String, for JSON and logs.
func (t Text) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText sets the secret to text.
func (t *Text) UnmarshalText(text []byte) error {
	*t = New(string(text))
	return nil
}

// HeaderUnsafe returns the index of the first byte in text that a credential in a header
// field cannot have, or -1 if there is none. A credential consists of visible ASCII
// characters (RFC 6750 section 2.1).
func HeaderUnsafe(text string) int {
	return strings.IndexFunc(text, func(c rune) bool { return c <= ' ' || c > '~' })
}
