package proxy_test

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"

	"hubspot-auth-proxy/tokens/hubspottest"
)

// routingClients are clients of startKeyed, with the portals that they may
// use.
var routingClients = []struct {
	name    string
	portals []string
}{
	{"one", []string{portalID}},
	{"static", []string{staticPortal}},
	{"two", []string{portalID, staticPortal}},
	{"all", nil},
}

// FuzzRouting: what a request reaches is what its target, its header and its
// key say, and it reaches that with the portal's own credential.
func FuzzRouting(f *testing.F) {
	for _, target := range []string{
		"/a", "/portals/62515/a", "/portals/62516/a?b=1;hapikey=", "/portals/62517?a", "/portals/62515", "//portals/62516/a", "/portals/%36/", "/portals/62515%2f62516/",
		"/portals/62515/../62516/", "/portals/62515//portals/62516/", "http://localhost/portals/62516/a", "http://62516", "/portals/62515/oauth/v1/x", "/oauth/x", "/portals/", "/portals/1/a",
	} {
		for i, header := range []string{"", portalID, staticPortal, "062516", "1", " 62515\t"} {
			f.Add(target, header, uint8(i))
		}
	}
	c := startKeyed(f)
	line := &line{addr: c.addr}
	f.Cleanup(line.close)
	var mu sync.Mutex
	var arrived []hubspottest.Echo
	c.hub.Observe(func(e hubspottest.Echo) {
		mu.Lock()
		defer mu.Unlock()
		if e.Method == http.MethodGet { // not a call of the token endpoint
			arrived = append(arrived, e)
		}
	})
	f.Fuzz(func(t *testing.T, target, header string, index uint8) {
		if _, err := url.ParseRequestURI(target); err != nil || strings.ContainsAny(target, " \r\n") || len(target)+len(header) > 1000 ||
			strings.Contains(target, "fake/") || strings.ContainsFunc(header, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
			return
		}
		client := routingClients[int(index)%len(routingClients)]
		mu.Lock()
		arrived = nil
		mu.Unlock()
		request := "GET " + target + " HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + c.key[client.name] + "\r\n"
		if header != "" {
			request += "X-HubSpot-Portal-Id: " + header + "\r\n"
		}
		got := line.exchange(t, request+"\r\n").Header.Get("X-Hubspot-Auth-Proxy-Error")
		mu.Lock()
		defer mu.Unlock()
		if len(arrived) > 1 || len(arrived) == 1 == (got != "") {
			t.Fatalf("%q with %q: %d requests, %q", target, header, len(arrived), got)
		}
		if len(arrived) == 1 {
			got = arrived[0].Portal + " " + strings.TrimPrefix(arrived[0].Target, c.hub.URL)
		}
		want := expectedRoute(target, header, client.portals)
		if got == "CLIENT_UNAUTHENTICATED" && credentialNamed(target) {
			return // it names another key
		}
		if got != want {
			t.Fatalf("%q with %q by %s: %q, want %q", target, header, client.name, got, want)
		}
		if v := c.hub.Violations(); len(v) > 0 {
			t.Fatalf("%q: %q", target, v)
		}
	})
}

// credentialNamed reports whether a client key may be in the query.
func credentialNamed(target string) bool {
	_, query, _ := strings.Cut(target, "?")
	for parameter := range strings.FieldsFuncSeq(query, func(r rune) bool { return r == '&' || r == ';' }) {
		name, value, _ := strings.Cut(parameter, "=")
		name = strings.ToLower(anEscape.ReplaceAllStringFunc(name, func(s string) string {
			decoded, _ := url.PathUnescape(s)
			return decoded
		}))
		if value != "" && (strings.Contains(name, "hapikey") || strings.Contains(name, "access_token")) {
			return true
		}
	}
	return false
}

var (
	anyPrefix = regexp.MustCompile(`^(?:[^:/?#]+://[^/?]*)?/portals/([^/?]*)`)
	portalKey = regexp.MustCompile(`^[1-9][0-9]{0,18}$`)
	noTarget  = regexp.MustCompile(`^[^:/?#*]*:[^/]|^[^:/?#*]*:/[^/]|^[^:/?#*]*:/?$|^://|^\*.|#`)
)

// expectedRoute is an oracle that shares no code with what it judges. It
// returns the portal and the target that HubSpot gets, or the category of the
// refusal.
func expectedRoute(target, header string, portals []string) string {
	var named []string
	if found := anyPrefix.FindStringSubmatch(target); found != nil {
		named = append(named, found[1])
	}
	if header != "" {
		named = append(named, strings.Trim(header, " \t"))
	}
	forwarded := expectedTarget(target)
	switch {
	case noTarget.MatchString(target):
		return "REQUEST_INVALID"
	case len(named) > 0 && !portalKey.MatchString(named[0]) || len(named) == 2 && !portalKey.MatchString(named[1]):
		return "PORTAL_INVALID"
	case len(named) == 2 && named[0] != named[1]:
		return "PORTAL_CONFLICT"
	case strings.HasPrefix(forwarded, "/oauth/"):
		return " " + forwarded
	case len(named) == 0 && len(portals) != 1:
		return "PORTAL_REQUIRED"
	case len(named) == 0:
		return portals[0] + " " + forwarded
	case portals != nil && !strings.Contains(","+strings.Join(portals, ",")+",", ","+named[0]+","):
		return "CLIENT_FORBIDDEN"
	case !strings.Contains(",62515,62516,62517,", ","+named[0]+","):
		return "PORTAL_NOT_CONNECTED"
	case named[0] == keyPortal:
		return keyPortal + " " + withKey(forwarded)
	}
	return named[0] + " " + forwarded
}
