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
	decoded, _, hasKey := strings.Cut(Decode(Decode(raw)), KeyPrefix)
	if plain, _, found := strings.Cut(raw, KeyPrefix); found {
		raw = plain + Redacted
	} else if hasKey {
		raw = Redacted // the key is percent-encoded
	}
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
	return Printable(raw)
}

// isSeparator reports whether the character separates segments, on some servers at least.
func isSeparator(c rune) bool { return c == '/' || c == '\\' }

// LoggedMethod returns the method as it is logged: printable, and without client keys. Clients
// may send any text as method.
func LoggedMethod(raw string) string {
	if strings.Contains(raw, KeyPrefix) {
		return Redacted
	}
	return Printable(raw[:min(len(raw), maxMethod)])
}

// LoggedAgent returns the first User-Agent as it is logged: printable, and without client keys.
// Clients may send any text.
func LoggedAgent(values []string) string {
	if len(values) == 0 {
		return ""
	}
	agent := values[0][:min(len(values[0]), maxAgent)]
	if strings.Contains(Decode(agent), KeyPrefix) {
		return Redacted
	}
	return Printable(agent)
}
