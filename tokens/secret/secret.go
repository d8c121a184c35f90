// Package secret has the type that every token, key and password of this
// program is held in from the moment it is read, so that none of them can be
// printed by mistake.
package secret

import (
	"crypto/subtle"
	"fmt"
	"io"
)

const redacted = "[redacted]"

// A Text is a secret string. Whatever prints it, by whichever verb, as JSON,
// or as a field deep inside another value, prints [redacted] instead, or an
// address; only [Text.Reveal] gives the secret itself.
//
// The zero value is the empty secret. A Text is immutable and safe for
// concurrent use. Do not compare Texts with ==; use [Text.Equal].
type Text struct {
	// A pointer, because fmt cannot call methods on the unexported fields of
	// other structs: it then prints an address, where it would print a string.
	value *string
}

// New returns s as a secret.
func New(s string) Text {
	if s == "" {
		return Text{}
	}
	return Text{value: &s}
}

// Reveal returns the secret itself. Each call of it is a place where a secret
// may get out.
func (t Text) Reveal() string {
	if t.value == nil {
		return ""
	}
	return *t.value
}

// IsZero reports whether the secret is empty.
func (t Text) IsZero() bool { return t.value == nil }

// Equal reports whether both secrets are the same, in a time that depends on
// their length only.
func (t Text) Equal(other Text) bool {
	return subtle.ConstantTimeCompare([]byte(t.Reveal()), []byte(other.Reveal())) == 1
}

// String returns [redacted], or nothing if the secret is empty.
func (t Text) String() string {
	if t.IsZero() {
		return ""
	}
	return redacted
}

// Format prints what String returns, whatever the verb: %x and %q too.
func (t Text) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, t.String()) }

// MarshalText returns what String returns, so that JSON and logs get no more.
func (t Text) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText takes text as the secret.
func (t *Text) UnmarshalText(text []byte) error {
	*t = New(string(text))
	return nil
}
