package proxy

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

// concealIn takes the secret out of the header's values.
func concealIn(header http.Header, secret string) {
	for _, form := range forms(secret) {
		for name, values := range header {
			if strings.Contains(strings.ToLower(name), strings.ToLower(form)) {
				delete(header, name)
			}
			for i, value := range values {
				if strings.Contains(value, form) {
					values[i] = conceal(name, value, form)
				}
			}
		}
	}
}

// conceal takes the parameter that has the secret out of a URL, and the secret
// itself out of any other value.
func conceal(name, value, secret string) string {
	if name == "Location" || name == "Content-Location" {
		if path, query, found := strings.Cut(value, "?"); found {
			query, fragment, hash := strings.Cut(query, "#")
			value = path
			if query = stripQuery(query); query != "" {
				value += "?" + query
			}
			if hash {
				value += "#" + fragment
			}
		}
	}
	return strings.ReplaceAll(value, secret, "[redacted]")
}

var percentEscape = regexp.MustCompile("%[0-9A-F]{2}")

// forms returns how a secret may be written. What is shorter than any real
// credential is not looked for: it would be found where it is not.
func forms(secret string) []string {
	if len(secret) < 8 {
		return nil
	}
	escaped := url.QueryEscape(secret)
	if escaped == secret {
		return []string{secret}
	}
	lower := percentEscape.ReplaceAllStringFunc(escaped, strings.ToLower)
	return []string{secret, escaped, lower}
}
