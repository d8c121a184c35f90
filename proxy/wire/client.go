package wire

import "regexp"

var (
	clientName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
	keyHash    = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// IsClientName reports whether name can be a client's: 1 to 64 ASCII letters,
// digits, dots, hyphens and underscores, beginning with a letter or a digit.
func IsClientName(name string) bool { return clientName.MatchString(name) }

// IsKeyHash reports whether text can be the hash of a client key: a SHA-256 in
// lower-case hex.
func IsKeyHash(text string) bool { return keyHash.MatchString(text) }
