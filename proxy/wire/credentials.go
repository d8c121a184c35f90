package wire

import (
	"net/http"
	"slices"
	"strings"
)

// Credentials returns the values of all credentials that a request presents,
// each once: of Authorization: Bearer, and of the parameters that [StripQuery]
// removes. An empty value is none.
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
	slices.Sort(values) // there may be thousands
	return slices.Compact(values)
}
