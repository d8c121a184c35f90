package wire

import (
	"net/http"
	"strings"
)

// CameThroughProxy returns the name of a header field by which another proxy
// says that it has forwarded the request, and nothing if there is none.
func CameThroughProxy(header http.Header) string {
	for name := range header {
		if name == "" || !strings.Contains("FVXfvx", name[:1]) {
			continue // saves most fields the copy
		}
		switch dashed := dashes(name); dashed {
		case "forwarded", "via", "x-real-ip":
			return name
		default:
			if strings.HasPrefix(dashed, "x-forwarded-") {
				return name
			}
		}
	}
	return ""
}

// OverridesMethod returns the name of a header field from which some servers take
// the method instead of the request line, and nothing if there is none.
func OverridesMethod(header http.Header) string {
	for name := range header {
		switch dashes(name) {
		case "x-http-method-override", "x-http-method", "x-method-override":
			return name
		}
	}
	return ""
}

// dashes returns the name of a header field in lower case, with hyphens in the
// place of underscores: servers of the CGI family make no difference between
// them.
func dashes(name string) string { return strings.ReplaceAll(strings.ToLower(name), "_", "-") }
