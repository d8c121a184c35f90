package wire

import "strings"

// TraceID returns the trace id of a traceparent header field
// (https://www.w3.org/TR/trace-context/). TraceID returns "" unless there is exactly
// one field and it is valid.
func TraceID(values []string) string {
	if len(values) != 1 {
		return ""
	}
	// version "-" trace-id "-" parent-id "-" flags. Newer versions may append more.
	const length, from, to = 55, 3, 35
	text := values[0]
	if len(text) < length || text[:2] == "ff" || text[2] != '-' || text[to] != '-' || text[52] != '-' ||
		len(text) > length && (text[:2] == "00" || text[length] != '-') {
		return ""
	}
	for i := range length {
		if i != 2 && i != to && i != 52 && !isLowerHex(text[i]) {
			return ""
		}
	}
	if id := text[from:to]; strings.Trim(id, "0") != "" {
		return id
	}
	return ""
}

func isLowerHex(c byte) bool { return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' }
