package wire_test

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hubspot-auth-proxy/proxy/wire"
)

// FuzzCredentials checks that a key is read from the places where SDKs put it, and
// from no other place.
func FuzzCredentials(f *testing.F) {
	f.Add("Bearer hap_a", "", "")
	f.Add("bearer  hap_a ", "Basic YTpi", "hapikey=hap_a")
	f.Add("Bearer", "Bearer ", "hapi%6bey=hap%5fa;HAPIKEY=b&hapikey")
	f.Add("Bearer\thap_a", "Bearer a, Bearer b", "access_token=hap_a&a=hapikey=hap_b")
	f.Add("", "", "+hapikey%20=a&%09access_token=b")
	f.Add("hap_a", "BEARER a b", "hapikey=a+b%&hapikey==&%=hapikey")
	f.Add("", "", "hApikeY%2B") // the name ends in a plus
	f.Fuzz(func(t *testing.T, first, second, query string) {
		header := http.Header{"Authorization": {first, second}, "Proxy-Authorization": {"Bearer hap_other"}, "X-Authorization": {"Bearer hap_other"}}
		got := wire.Credentials(header, query)
		if diff := cmp.Diff(expectedKeys(query, first, second), got); diff != "" {
			t.Fatalf("%q, %q, %q (-want +got):\n%s", first, second, query, diff)
		}
		// A key in the query is not forwarded.
		for parameter := range wire.Parameters(wire.StripQuery(query)) {
			if isCredential(parameter) {
				t.Fatalf("%q keeps a key", query)
			}
		}
	})
}

var bearer = regexp.MustCompile(`(?is)^bearer (.*)$`)

// expectedKeys finds the credentials with code of its own, to be compared with
// Credentials.
func expectedKeys(query string, authorizations ...string) []string {
	var all []string
	for _, value := range authorizations {
		if found := bearer.FindStringSubmatch(strings.TrimSpace(value)); found != nil {
			all = append(all, strings.TrimSpace(found[1]))
		}
	}
	for _, parameter := range parameters(query) {
		if name, value, _ := strings.Cut(parameter, "="); isCredential(name) {
			all = append(all, unescaped(value))
		}
	}
	var keys []string
	for i, key := range all {
		if key != "" && !slices.Contains(all[:i], key) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// unescaped decodes as a lenient server does: a plus is a space, and an invalid
// escape stays as it is.
func unescaped(s string) string {
	return anEscape.ReplaceAllStringFunc(strings.ReplaceAll(s, "+", " "), func(s string) string {
		decoded, _ := url.PathUnescape(s)
		return decoded
	})
}
