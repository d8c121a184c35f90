package wire

import (
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"
)

// IsPlainPath reports whether all servers read the path alike. A plain path
//   - begins with a slash,
//   - consists of unreserved characters (RFC 3986 section 2.3), / @ : ! $ ' ( ) * , + = &
//     and escapes,
//   - has escapes of UTF-8 text only, without control characters and / \ . ; % ? #,
//   - has neither dot segments nor empty segments, except that it may end in a slash.
//
// Servers differ about everything else: some resolve dot segments, merge slashes, cut
// off what is after a semicolon, or decode twice.
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

// IsPathRule reports whether rule is a valid path rule: a plain path that has no
// escapes and does not end in a slash. A rule allows its own path and the paths below
// it. The rule / allows all plain paths.
func IsPathRule(rule string) bool {
	return rule == "/" || IsPlainPath(rule) && !strings.Contains(rule, "%") && !strings.HasSuffix(rule, "/")
}

// IsUnder reports whether path is the rule's own path or below it. Whole segments are
// compared: /crm/v3x is not under /crm/v3.
func IsUnder(path, rule string) bool {
	rest, found := strings.CutPrefix(path, strings.TrimSuffix(rule, "/"))
	return found && (rest == "" || rest[0] == '/')
}

// OverridesPath reports whether a server might take the path from one of these header
// fields instead of from the request line.
func OverridesPath(header http.Header) bool {
	for name := range header {
		switch dashes(name) {
		case "x-original-url", "x-original-uri", "x-rewrite-url":
			return true
		}
	}
	return false
}
