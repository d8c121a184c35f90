package proxy

import (
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestATargetIsTakenApartAsItStands(t *testing.T) {
	for raw, want := range map[string]target{
		"/":                 {path: "/"},
		"/a":                {path: "/a"},
		"/a?":               {path: "/a", hasQuery: true},
		"/a??":              {path: "/a", query: "?", hasQuery: true},
		"/a?b?c":            {path: "/a", query: "b?c", hasQuery: true},
		"/a%2Fb%2e%2e/":     {path: "/a%2Fb%2e%2e/"},
		"//a//b":            {path: "//a//b"},
		"/a/../b/./c":       {path: "/a/../b/./c"},
		"/a|b^c{d}e\"f<g>`": {path: "/a|b^c{d}e\"f<g>`"},
		"/a;b=1?c;d":        {path: "/a;b=1", query: "c;d", hasQuery: true},
		"/a%20b?c%20d":      {path: "/a%20b", query: "c%20d", hasQuery: true},
		"/a#b?c#d":          {path: "/a#b", query: "c#d", hasQuery: true},
		"/\xff\xfe":         {path: "/\xff\xfe"},
		"/a://b":            {path: "/a://b"},
		"*":                 {path: "*"},

		// Absolute, of which the host does not count.
		"http://elsewhere":               {path: "/"},
		"http://elsewhere/":              {path: "/"},
		"http://elsewhere?":              {path: "/", hasQuery: true},
		"http://elsewhere?a=/b":          {path: "/", query: "a=/b", hasQuery: true},
		"HTTPS://u:p@elsewhere:1//a%2F?": {path: "//a%2F", hasQuery: true},
		"http:///a":                      {path: "/a"},
		"gopher://elsewhere/portals/1/x": {path: "/portals/1/x"},
		"http://elsewhere/http://b/c":    {path: "/http://b/c"},
	} {
		got, ok := parseTarget(raw)
		if !ok {
			t.Errorf("%q is refused", raw)
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(target{})); diff != "" {
			t.Errorf("%q (-want +got):\n%s", raw, diff)
		}
	}
}

func TestATargetThatIsNoPathAndNoURLIsRefused(t *testing.T) {
	for _, raw := range []string{
		"", "a", "a/b", "mailto:x", "mailto:x?u=http://h/portals/1/x", "x?http://h/y", "api.hubapi.com:443", "**", "*?a", "*/a", "?a=1",
		"a:b://h/y", "://h/y", "a/b://h/y",
	} {
		if got, ok := parseTarget(raw); ok {
			t.Errorf("%q is taken for %+v", raw, got)
		}
	}
}

func TestAPortalPrefixIsThatOfTheRawPath(t *testing.T) {
	type result struct {
		ID, Path string
		Found    bool
	}
	for path, want := range map[string]result{
		"/portals/1":             {"1", "/", true},
		"/portals/1/":            {"1", "/", true},
		"/portals/1/a":           {"1", "/a", true},
		"/portals/1//a":          {"1", "//a", true},
		"/portals/1/../2/":       {"1", "/../2/", true},
		"/portals/1/%2e%2e/":     {"1", "/%2e%2e/", true},
		"/portals/1/portals/2/a": {"1", "/portals/2/a", true},
		"/portals/":              {"", "/", true},
		"/portals//a":            {"", "/a", true},
		"/portals/%31/a":         {"%31", "/a", true},
		"/portals/1%2f2/a":       {"1%2f2", "/a", true},
		"/portals/01/a":          {"01", "/a", true},
		"/portals/1;x/a":         {"1;x", "/a", true},
		"/portals/../a":          {"..", "/a", true},

		"/portals":       {"", "/portals", false},
		"//portals/1/a":  {"", "//portals/1/a", false},
		"/./portals/1/a": {"", "/./portals/1/a", false},
		"/Portals/1/a":   {"", "/Portals/1/a", false},
		"/portal%73/1/a": {"", "/portal%73/1/a", false},
		"/portals%2f1/a": {"", "/portals%2f1/a", false},
		"/a/portals/1/b": {"", "/a/portals/1/b", false},
		"/portalsx/1":    {"", "/portalsx/1", false},
		"*":              {"", "*", false},
	} {
		id, rest, found := target{path: path, query: "q", hasQuery: true}.portalPrefix()
		if diff := cmp.Diff(want, result{id, rest.path, found}); diff != "" {
			t.Errorf("%q (-want +got):\n%s", path, diff)
		}
		if rest.query != "q" || !rest.hasQuery {
			t.Errorf("%q has lost its query", path)
		}
	}
}

func TestTheTokenEndpointIsKnownInAllVersions(t *testing.T) {
	for path, want := range map[string]bool{
		"/oauth/v1/token":         true,
		"/oauth/v3/token":         true,
		"/oauth/2026-03/token":    true,
		"/oauth/v12/token":        true,
		"/oauth//token":           false,
		"/oauth/v/token":          false,
		"/oauth/v1x/token":        false,
		"/oauth/V1/token":         false,
		"/oauth/2026-00/token":    false,
		"/oauth/2026-13/token":    false,
		"/oauth/2026-3/token":     false,
		"/oauth/..%2fx/token":     false,
		"/oauth/../token":         false,
		"/oauth/v1/token\n":       false,
		"/oauth/token":            false,
		"/oauth/v1/token/":        false,
		"/oauth/v1/tokens":        false,
		"/oauth/v1/x/token":       false,
		"/oauth/v1%2Ftoken":       false,
		"//oauth/v1/token":        false,
		"/OAuth/v1/token":         false,
		"/crm/v1/token":           false,
		"/v1/token":               false,
		"v1/token":                false,
		"/oauth/v1/access-tokens": false,
		"/oauth":                  false,
	} {
		if got := (target{path: path}).isTokenEndpoint(); got != want {
			t.Errorf("%q: %v", path, got)
		}
	}
}

func TestTheURLForHubSpotHasTheTargetsOwnBytes(t *testing.T) {
	for _, upstream := range []*url.URL{{Scheme: "https", Host: "api.hubapi.com"}, {Scheme: "http", Host: "127.0.0.1:1"}} {
		for _, raw := range []string{
			"/", "/a", "/a?", "/a??", "/a?b=%zz;c", "/a%2Fb", "/a%2fb", "//a", "//", "///", "//a//b?c", "/a/../b", "/./a", "/a/.", "/..",
			"/a|b^c{d}e\"f<g>`", "/a%20b+c", "/a;b=1;c", "/#a", "/a#b?c#d", "/\xff", "/é", "*", "/a:b@c", "/http://a/b", "/%41",
			"//a%2Fb", "//a@b:80/c", "/%00", "/a?b=c/d?e",
		} {
			parsed, ok := parseTarget(raw)
			u := parsed.url(upstream)
			if got := u.RequestURI(); !ok || got != raw {
				t.Errorf("%q is sent as %q", raw, got)
			}
			if u.Scheme != upstream.Scheme || u.Host != upstream.Host {
				t.Errorf("%q goes to %s://%s", raw, u.Scheme, u.Host)
			}
		}
	}
}

func TestAPathThatNoURLCanHaveGoesInAbsoluteFormIfItBeginsWithTwoSlashes(t *testing.T) {
	upstream := &url.URL{Scheme: "https", Host: "api.hubapi.com"}
	for _, raw := range []string{"//a|b", "//a%zz", "//\xff?c", "//é/{}?"} {
		parsed, _ := parseTarget(raw)
		if got, want := parsed.url(upstream).RequestURI(), "https://api.hubapi.com"+raw; got != want {
			t.Errorf("%q is sent as %q", raw, got)
		}
	}
}
