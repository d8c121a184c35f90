package wire

import (
	"net/http"
	"strings"
)

// OverridesMethod reports whether some server would take the method from a header
// field or from the query instead of the request line.
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

// dashes returns the name of a header field in lower case, with hyphens in the
// place of underscores: servers of the CGI family make no difference between
// them.
func dashes(name string) string { return strings.ReplaceAll(strings.ToLower(name), "_", "-") }
