package wire

import (
	"iter"
	"strings"
	"unicode"
)

// StripQuery returns the query without the parameters that carry a credential. With
// each parameter, the delimiter after it is removed; with the last parameter, the
// delimiter before it. All other bytes stay as they are, in order.
//
// Both & and ; delimit parameters, because servers differ about the semicolon.
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

func hasCredential(query string) bool {
	for parameter := range Parameters(query) {
		if IsCredential(parameter) {
			return true
		}
	}
	return false
}

// Parameters yields the query's parameters, which & and ; delimit, without decoding
// them. An empty query has none.
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

// IsCredential reports whether the parameter's decoded name is hapikey or
// access_token, in any case, with or without white space around it.
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

// Decode undoes percent-encoding, and turns each + into a space. Unlike
// url.QueryUnescape, Decode leaves invalid escapes as they are, as lenient servers do.
func Decode(s string) string {
	if strings.IndexByte(s, '%') < 0 && strings.IndexByte(s, '+') < 0 {
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
