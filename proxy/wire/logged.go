package wire

import "strings"

// Of a longer text only the beginning is logged. The limits are in bytes.
const (
	maxAgent  = 100 // of a User-Agent
	maxMethod = 32  // of a method
	maxLogged = 512 // of a path
)

// Redacted is written in place of a credential.
const Redacted = "[redacted]"

// LoggedPath returns the path as it is logged: printable, at most maxLogged bytes of it, without
// client keys. HubSpot's older introspection has a token in the path, so LoggedPath drops
// everything after the segment that follows "oauth", however that segment is escaped.
func LoggedPath(raw string) string {
	raw = raw[:min(len(raw), maxLogged)]
	decoded, _, _ := strings.Cut(Decode(Decode(raw)), KeyPrefix)
	oauth := false
	for segment := range strings.FieldsFuncSeq(decoded, isSeparator) {
		// Some servers ignore what follows a semicolon in a segment.
		name, _, _ := strings.Cut(segment, ";")
		if oauth {
			return Printable("/oauth/" + name)
		}
		oauth = strings.EqualFold(strings.TrimSpace(name), "oauth")
	}
	if oauth {
		return "/oauth"
	}
	return Printable(withoutKeys(raw))
}

// withoutKeys returns the text before its first client key, and [Redacted] in place of the rest.
// If a key may be percent-encoded, once or twice, it returns Redacted only.
func withoutKeys(text string) string {
	before, _, found := strings.Cut(text, KeyPrefix)
	switch {
	case strings.Contains(Decode(Decode(before)), KeyPrefix):
		return Redacted
	case found:
		return before + Redacted
	}
	return text
}

// isSeparator reports whether the character separates segments, on some servers at least.
func isSeparator(c rune) bool { return c == '/' || c == '\\' }

// LoggedMethod returns the method as it is logged: printable, at most maxMethod bytes of it, and
// without client keys. Clients may send any text as method.
func LoggedMethod(raw string) string { return Printable(withoutKeys(raw[:min(len(raw), maxMethod)])) }

// LoggedAgent returns the User-Agent as it is logged: printable, at most maxAgent bytes of it, and
// without client keys. Clients may send any text.
func LoggedAgent(raw string) string { return Printable(withoutKeys(raw[:min(len(raw), maxAgent)])) }
