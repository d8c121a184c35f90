package wire

import (
	"net/http"
	"strings"
)

// OverridesMethod reports whether a server might take the method from one of these
// header fields, or from a parameter _method in the query, instead of from the
// request line.
func OverridesMethod(header http.Header, query string) bool {
	for name := range header {
		switch dashes(name) {
		case "x-http-method-override", "x-http-method", "x-method-override":
			return true
		}
	}
	for parameter := range Parameters(query) {
		name, _, _ := strings.Cut(parameter, "=")
		if strings.EqualFold(trim(Decode(name)), "_method") {
			return true
		}
	}
	return false
}

// dashes returns the name of a header field in lower case, with each underscore
// replaced by a hyphen, because CGI servers do not distinguish between the two.
func dashes(name string) string { return strings.ReplaceAll(strings.ToLower(name), "_", "-") }
