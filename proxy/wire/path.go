package wire

import (
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"
)

// IsPlainPath reports whether all servers read the path alike: it has no character
// that some server takes for a separator, for the beginning of something else, or
// for a part of an escape, and no segment that some server resolves. So it consists
// of unreserved characters (RFC 3986 section 2.3), / @ : ! $ ' ( ) * , + = & and
// escapes of UTF-8 text without control characters and / \ . ; % ? #, and has
// neither dot segments nor empty ones, except for a slash at its end.
func IsPlainPath(path string) bool {
	if !strings.HasPrefix(path, "/") || strings.Contains(path, "//") {
		return false
	}
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "." || segment == ".." {
			return false
		}
	}
	decoded := make([]byte, 0, len(path))
	for i := 0; i < len(path); i++ {
		switch c := path[i]; {
		case c == '%':
			if i+2 >= len(path) || !isHex(path[i+1]) || !isHex(path[i+2]) {
				return false
			}
			c = unhex(path[i+1])<<4 | unhex(path[i+2])
			if strings.IndexByte(`/\.;%?#`, c) >= 0 {
				return false
			}
			decoded = append(decoded, c)
			i += 2
		case isAlphanumeric(c) || strings.IndexByte("-._~/@:!$'()*,+=&", c) >= 0:
			decoded = append(decoded, c)
		default:
			return false
		}
	}
	return utf8.Valid(decoded) && strings.IndexFunc(string(decoded), unicode.IsControl) < 0
}

func isAlphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// IsPathRule reports whether the rule can limit a client to the path that it names
// and those below: a plain path without escapes, and without a slash at its end. A
// single slash is the rule that allows all plain paths.
func IsPathRule(rule string) bool {
	return rule == "/" || IsPlainPath(rule) && !strings.Contains(rule, "%") && !strings.HasSuffix(rule, "/")
}

// IsUnder reports whether the path is the rule's, or below it, by whole segments.
func IsUnder(path, rule string) bool {
	rest, found := strings.CutPrefix(path, strings.TrimSuffix(rule, "/"))
	return found && (rest == "" || rest[0] == '/')
}

// OverridesPath reports whether some server would take the path from a header field
// instead of the request line.
func OverridesPath(header http.Header) bool {
	for name := range header {
		switch dashes(name) {
		case "x-original-url", "x-original-uri", "x-rewrite-url":
			return true
		}
	}
	return false
}
