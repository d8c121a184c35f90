package wire

import (
	"iter"
	"strings"
	"unicode"
)

// StripQuery removes every parameter that carries a credential, wherever it
// stands: with it goes the delimiter after it, else the one before it. All
// other bytes stay as they are, in order.
//
// Both & and ; delimit parameters, for servers differ about the latter.
func StripQuery(query string) string {
	if !hasCredential(query) {
		return query
	}
	kept := make([]byte, 0, len(query))
	for {
		end := strings.IndexAny(query, "&;")
		if end < 0 {
			break
		}
		if !IsCredential(query[:end]) {
			kept = append(kept, query[:end+1]...)
		}
		query = query[end+1:]
	}
	switch {
	case !IsCredential(query):
		kept = append(kept, query...)
	case len(kept) > 0:
		kept = kept[:len(kept)-1]
	}
	return string(kept)
}

// hasCredential reports whether there is anything to strip.
func hasCredential(query string) bool {
	for parameter := range Parameters(query) {
		if IsCredential(parameter) {
			return true
		}
	}
	return false
}

// Parameters yields what stands between the query's delimiters.
func Parameters(query string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for query != "" {
			end := strings.IndexAny(query, "&;")
			if end < 0 {
				yield(query)
				return
			}
			if !yield(query[:end]) {
				return
			}
			query = query[end+1:]
		}
	}
}

// IsCredential reports whether a parameter's decoded name is that of a
// credential, in whatever case, and whatever white space is around it.
func IsCredential(parameter string) bool {
	name, _, _ := strings.Cut(parameter, "=")
	if len(name) < len("hapikey") {
		return false
	}
	name = trim(Decode(name))
	return strings.EqualFold(name, "hapikey") || strings.EqualFold(name, "access_token")
}

// trim removes the white space around a name, and control characters, which
// Java's String.trim removes too.
func trim(name string) string {
	return strings.TrimFunc(name, func(c rune) bool { return c <= ' ' || c == 0x7f || unicode.IsSpace(c) })
}

// Decode undoes percent-encoding. Unlike url.QueryUnescape it takes what is
// wrongly encoded as it stands, as lenient servers do.
func Decode(s string) string {
	if !strings.ContainsAny(s, "%+") {
		return s
	}
	decoded := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '%' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]):
			decoded = append(decoded, unhex(s[i+1])<<4|unhex(s[i+2]))
			i += 2
		case s[i] == '+':
			decoded = append(decoded, ' ')
		default:
			decoded = append(decoded, s[i])
		}
	}
	return string(decoded)
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func unhex(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	case c <= 'F':
		return c - 'A' + 10
	default:
		return c - 'a' + 10
	}
}
