package wire

import (
	"net/http"
	"slices"
	"strings"
)

// Credentials returns the distinct values of all credentials that a request
// presents, sorted: those of Authorization: Bearer, and those of the query
// parameters that [StripQuery] removes. Empty values are left out.
func Credentials(header http.Header, query string) []string {
	var values []string
	add := func(value string) {
		if value != "" {
			values = append(values, value)
		}
	}
	for _, field := range header["Authorization"] {
		scheme, value, _ := strings.Cut(strings.TrimSpace(field), " ")
		if strings.EqualFold(scheme, "Bearer") {
			add(strings.TrimSpace(value))
		}
	}
	for parameter := range Parameters(query) {
		if IsCredential(parameter) {
			_, value, _ := strings.Cut(parameter, "=")
			add(Decode(value))
		}
	}
	slices.Sort(values) // a hostile client may send thousands
	return slices.Compact(values)
}
