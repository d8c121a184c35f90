package proxy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hubspot-auth-proxy/tokens/hubspottest"
)

// outcome is what became of a request: the portal, the kind of its credential
// and the target that HubSpot got, or the category of the refusal.
func (c keyedRig) outcome(target, client string, lines ...string) string {
	c.t.Helper()
	if client != "" {
		lines = append(lines, "Authorization: Bearer {"+client+"}")
	}
	got := c.ask("GET "+target, lines...)
	if category := got.Header.Get("X-Hubspot-Auth-Proxy-Error"); category != "" {
		return category
	}
	echo, err := hubspottest.DecodeEcho(strings.NewReader(got.text))
	if err != nil || echo.Method == "" {
		return fmt.Sprintf("%d %.100s", got.StatusCode, got.text)
	}
	return strings.Join([]string{echo.Portal, echo.Credential, strings.TrimPrefix(echo.Target, c.hub.URL)}, " ")
}

// Each target with the key of a client that may use 62515 only, with one that
// may use all, and without a key where none is needed and 62516 is the default.
func TestNoTrickWithThePrefixLeadsToAnotherPortal(t *testing.T) {
	const (
		forbidden = "CLIENT_FORBIDDEN"
		invalid   = "PORTAL_INVALID"
		required  = "PORTAL_REQUIRED"
		conflict  = "PORTAL_CONFLICT"
		malformed = "REQUEST_INVALID"
		one       = "62515 oauth "
		other     = "62516 access_token "
	)
	keyed, open := startKeyed(t), startKeyed(t, anonymous)
	for _, test := range []struct{ target, header, one, all, nobody string }{
		{"/portals/62515/a", "", one + "/a", one + "/a", one + "/a"},
		{"/portals/62516/a", "", forbidden, other + "/a", other + "/a"},
		{"/portals/62515", "", one + "/", one + "/", one + "/"},
		{"/portals/62515?", "", one + "/?", one + "/?", one + "/?"},
		{"/portals/62515?a=/portals/62516/", "", one + "/?a=/portals/62516/", one + "/?a=/portals/62516/", one + "/?a=/portals/62516/"},
		{"/portals?/62516/", "", one + "/portals?/62516/", required, other + "/portals?/62516/"},
		{"/portals/?62516/", "", invalid, invalid, invalid},
		{"/portals/62515/../62516/a", "", one + "/../62516/a", one + "/../62516/a", one + "/../62516/a"},
		{"/portals/62515/../portals/62516/a", "", one + "/../portals/62516/a", one + "/../portals/62516/a", one + "/../portals/62516/a"},
		{"/portals/62515/%2e%2e/62516/a", "", one + "/%2e%2e/62516/a", one + "/%2e%2e/62516/a", one + "/%2e%2e/62516/a"},
		{"/portals/62515/..%2f62516/a", "", one + "/..%2f62516/a", one + "/..%2f62516/a", one + "/..%2f62516/a"},
		{"/portals/62515//portals/62516/", "", one + "//portals/62516/", one + "//portals/62516/", one + "//portals/62516/"},
		{"/portals/62515/portals/62516/a", "", one + "/portals/62516/a", one + "/portals/62516/a", one + "/portals/62516/a"},
		{"/portals/62516/../62515/a", "", forbidden, other + "/../62515/a", other + "/../62515/a"},
		{"/portals/%36%32%35%31%36/a", "", invalid, invalid, invalid},
		{"/portals/6251%36/a", "", invalid, invalid, invalid},
		{"/portals/62515%2f62516/a", "", invalid, invalid, invalid},
		{"/portals/62515%2F/a", "", invalid, invalid, invalid},
		{"/portals/62515;x/a", "", invalid, invalid, invalid},
		{"/portals/62515%00/a", "", invalid, invalid, invalid},
		{"/portals/62515%0d%0a/a", "", invalid, invalid, invalid},
		{"/portals/62515,62516/a", "", invalid, invalid, invalid},
		{"/portals/62515#/a", "", malformed, malformed, malformed},
		{"/portals/062515/a", "", invalid, invalid, invalid},
		{"/portals/+62515/a", "", invalid, invalid, invalid},
		{"/portals/0xf433/a", "", invalid, invalid, invalid},
		{"/portals/62515.0/a", "", invalid, invalid, invalid},
		{"/portals/\xef\xbc\x96\xef\xbc\x92\xef\xbc\x95\xef\xbc\x91\xef\xbc\x95/a", "", invalid, invalid, invalid}, // full-width digits
		{"/portals/62515\\..\\62516/a", "", invalid, invalid, invalid},
		{"/portals//62516/a", "", invalid, invalid, invalid},
		{"/portals/../62516/a", "", invalid, invalid, invalid},
		{"/portals/./62516/a", "", invalid, invalid, invalid},
		{"/portals/*/a", "", invalid, invalid, invalid},
		{"/portals/default/a", "", invalid, invalid, invalid},
		{"//portals/62516/a", "", one + "//portals/62516/a", required, other + "//portals/62516/a"},
		{"/./portals/62515/a", "", one + "/./portals/62515/a", required, other + "/./portals/62515/a"},
		{"/x/../portals/62516/a", "", one + "/x/../portals/62516/a", required, other + "/x/../portals/62516/a"},
		{"/PORTALS/62516/a", "", one + "/PORTALS/62516/a", required, other + "/PORTALS/62516/a"},
		{"/portal%73/62516/a", "", one + "/portal%73/62516/a", required, other + "/portal%73/62516/a"},
		{"/%70ortals%2f62516/a", "", one + "/%70ortals%2f62516/a", required, other + "/%70ortals%2f62516/a"},
		{"/portals\\62516/a", "", one + "/portals\\62516/a", required, other + "/portals\\62516/a"},
		{"/portals;/62516/a", "", one + "/portals;/62516/a", required, other + "/portals;/62516/a"},
		{"/?/portals/62516/", "", one + "/?/portals/62516/", required, other + "/?/portals/62516/"},
		{"http://localhost/portals/62515/a", "", one + "/a", one + "/a", one + "/a"},
		{"http://localhost/portals/62516/a", "", forbidden, other + "/a", other + "/a"},
		{"http://portals/62516/a", "", one + "/62516/a", required, "BROWSER_REFUSED"},
		{"http://localhost//portals/62516/a", "", one + "//portals/62516/a", required, other + "//portals/62516/a"},
		{"HTTP://localhost?/portals/62516/", "", one + "/?/portals/62516/", required, other + "/?/portals/62516/"},
		{"x:/portals/62516/a", "", malformed, malformed, malformed},
		{"*", "", one + "*", required, other + "*"},

		{"/a", "62515", one + "/a", one + "/a", one + "/a"},
		{"/a", "62516", forbidden, other + "/a", other + "/a"},
		{"/portals/62515/a", "62515", one + "/a", one + "/a", one + "/a"},
		{"/portals/62515/a", "62516", conflict, conflict, conflict},
		{"/portals/62516/a", "62515", conflict, conflict, conflict},
		{"/portals/62515/a", "062515", invalid, invalid, invalid},
		{"/portals/62515/a", "62515, 62516", invalid, invalid, invalid},
		{"/portals/62515/a", "62515\r\nX-HubSpot-Portal-Id: 62516", conflict, conflict, conflict},
		{"/portals/62515/a", "62515\r\n 62516", invalid, invalid, invalid},
		{"/portals/62515/a", "", one + "/a", one + "/a", one + "/a"},
		{"//portals/62515/a", "62516", forbidden, other + "//portals/62515/a", other + "//portals/62515/a"},
		{"http://localhost/portals/62515/a", "62516", conflict, conflict, conflict},
		{"/a", "%36%32%35%31%36", invalid, invalid, invalid},
		{"/a", "62516/", invalid, invalid, invalid},
		{"/a", strings.Repeat("9", 64<<10), invalid, invalid, invalid},
		{"/portals/" + strings.Repeat("9", 64<<10) + "/a", "", invalid, invalid, invalid},
		{"/portals/" + strings.Repeat("9", 19) + "/a", "", forbidden, "PORTAL_NOT_CONNECTED", "PORTAL_NOT_CONNECTED"},
	} {
		var lines []string
		if test.header != "" {
			lines = []string{"X-HubSpot-Portal-Id: " + test.header}
		}
		got := []string{keyed.outcome(test.target, "one", lines...), keyed.outcome(test.target, "all", lines...), open.outcome(test.target, "", lines...)}
		if diff := cmp.Diff([]string{test.one, test.all, test.nobody}, got); diff != "" {
			t.Errorf("%.60q with %.60q (-want +got):\n%s", test.target, test.header, diff)
		}
	}
	for _, c := range []keyedRig{keyed, open} {
		if v := c.hub.Violations(); len(v) > 0 {
			t.Error(v)
		}
	}
}
