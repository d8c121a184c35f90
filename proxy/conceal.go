package proxy

import (
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"hubspot-auth-proxy/proxy/wire"
)

// conceal removes the credentials that the request was sent with from a header of
// HubSpot's answer. HubSpot may repeat a credential there, as in a redirect to a URL with its
// hapikey.
func (c *call) conceal(header http.Header) {
	if len(header) == 0 {
		return
	}
	forms := c.forms()
	maps.DeleteFunc(header, func(name string, values []string) bool { return conceal(name, values, forms) })
}

// conceal replaces secrets, written in any of these forms, in a field's values. It reports
// whether the field's name contains a secret; such a field must be deleted.
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

// containsFold reports whether s contains substr, ignoring case.
func containsFold(s, substr string) bool {
	for ; len(s) >= len(substr); s = s[1:] {
		if strings.EqualFold(s[:len(substr)], substr) {
			return true
		}
	}
	return false
}

// concealed returns the value without the secret. In a URL it removes the whole query
// parameter.
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
	return strings.ReplaceAll(value, secret, wire.Redacted)
}

var percentEscape = regexp.MustCompile("%[0-9A-F]{2}")

// forms returns all forms in which the request's credentials may appear in an answer.
func (c *call) forms() []string {
	var forms []string
	for _, credential := range c.used {
		forms = appendForms(forms, credential.Secret.Reveal())
	}
	return forms
}

// appendForms adds the forms in which a secret may be written: as it is and
// percent-encoded. It skips secrets that are shorter than any real credential, because
// short texts would also match by chance.
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
