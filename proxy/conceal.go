package proxy

import (
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"hubspot-auth-proxy/proxy/wire"
)

// conceal takes the credentials that the request was sent with out of a header,
// should HubSpot have put one there, as in a redirect to a URL with its hapikey.
func (c *call) conceal(header http.Header) {
	forms := c.forms()
	maps.DeleteFunc(header, func(name string, values []string) bool { return conceal(name, values, forms) })
}

// conceal takes secrets, in these forms, out of a header's values. It reports
// whether there is one in its name: then the header has to go.
func conceal(name string, values, forms []string) (reveals bool) {
	for _, form := range forms {
		for i, value := range values {
			if strings.Contains(value, form) {
				values[i] = concealed(name, value, form)
			}
		}
		reveals = reveals || containsFold(name, form)
	}
	return reveals
}

// containsFold reports whether s has substr in it, in whatever case.
func containsFold(s, substr string) bool {
	for ; len(s) >= len(substr); s = s[1:] {
		if strings.EqualFold(s[:len(substr)], substr) {
			return true
		}
	}
	return false
}

// concealed returns the value without the secret: of a URL, without the
// parameter that has it.
func concealed(name, value, secret string) string {
	if name == "Location" || name == "Content-Location" {
		if path, query, found := strings.Cut(value, "?"); found {
			query, fragment, hash := strings.Cut(query, "#")
			value = path
			if query = wire.StripQuery(query); query != "" {
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

// forms returns how the secrets that the request was sent with may be written.
func (c *call) forms() []string {
	var forms []string
	for _, credential := range c.used {
		forms = appendForms(forms, credential.Secret.Reveal())
	}
	return forms
}

// appendForms adds how a secret may be written. What is shorter than any real
// credential is not looked for: it would be found where it is not.
func appendForms(forms []string, secret string) []string {
	if len(secret) < 8 {
		return forms
	}
	forms = append(forms, secret)
	if escaped := url.QueryEscape(secret); escaped != secret {
		forms = append(forms, escaped, percentEscape.ReplaceAllStringFunc(escaped, strings.ToLower))
	}
	return forms
}
