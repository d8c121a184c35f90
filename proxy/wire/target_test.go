package wire_test

import (
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hubspot-auth-proxy/proxy/wire"
)

func TestATargetIsParsedByteForByte(t *testing.T) {
	for raw, want := range map[string]wire.Target{
		"/":                 {Path: "/"},
		"/a":                {Path: "/a"},
		"/a?":               {Path: "/a", HasQuery: true},
		"/a??":              {Path: "/a", Query: "?", HasQuery: true},
		"/a?b?c":            {Path: "/a", Query: "b?c", HasQuery: true},
		"/a%2Fb%2e%2e/":     {Path: "/a%2Fb%2e%2e/"},
		"//a//b":            {Path: "//a//b"},
		"/a/../b/./c":       {Path: "/a/../b/./c"},
		"/a|b^c{d}e\"f<g>`": {Path: "/a|b^c{d}e\"f<g>`"},
		"/a;b=1?c;d":        {Path: "/a;b=1", Query: "c;d", HasQuery: true},
		"/a%20b?c%20d":      {Path: "/a%20b", Query: "c%20d", HasQuery: true},
		"/\xff\xfe":         {Path: "/\xff\xfe"},
		"/a://b":            {Path: "/a://b"},
		"*":                 {Path: "*"},

		// In absolute form, where the host does not count.
		"http://elsewhere":               {Path: "/"},
		"http://elsewhere/":              {Path: "/"},
		"http://elsewhere?":              {Path: "/", HasQuery: true},
		"http://elsewhere?a=/b":          {Path: "/", Query: "a=/b", HasQuery: true},
		"HTTPS://u:p@elsewhere:1//a%2F?": {Path: "//a%2F", HasQuery: true},
		"http:///a":                      {Path: "/a"},
		"gopher://elsewhere/portals/1/x": {Path: "/portals/1/x"},
		"http://elsewhere/http://b/c":    {Path: "/http://b/c"},
	} {
		got, ok := wire.ParseTarget(raw)
		if !ok {
			t.Errorf("%q is refused", raw)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", raw, diff)
		}
	}
}

func TestATargetThatIsNeitherAPathNorAURLIsRefused(t *testing.T) {
	for _, raw := range []string{
		"", "a", "a/b", "mailto:x", "mailto:x?u=http://h/portals/1/x", "x?http://h/y", "api.hubapi.com:443", "**", "*?a", "*/a", "?a=1",
		"a:b://h/y", "://h/y", "a/b://h/y", "/#", "/#a", "/a#b?c", "/a?b#c", "/a?#", "http://h#/a", "http://h/a#b", "*#", "#",
	} {
		if got, ok := wire.ParseTarget(raw); ok {
			t.Errorf("%q is taken for %+v", raw, got)
		}
	}
}

func TestThePortalPrefixIsReadFromTheRawPath(t *testing.T) {
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

		"/portals/1//oauth/v1/token":  {"1", "/oauth/v1/token", true},
		"/portals/1///oauth/v1/token": {"1", "///oauth/v1/token", true},
		"/portals/1//OAuth/v1/token":  {"1", "//OAuth/v1/token", true},

		"//oauth/v1/token":  {"", "/oauth/v1/token", false},
		"//oauth//token":    {"", "/oauth//token", false},
		"//oauth":           {"", "//oauth", false},
		"///oauth/v1/token": {"", "///oauth/v1/token", false},
		"/portals":          {"", "/portals", false},
		"//portals/1/a":     {"", "//portals/1/a", false},
		"/./portals/1/a":    {"", "/./portals/1/a", false},
		"/Portals/1/a":      {"", "/Portals/1/a", false},
		"/portal%73/1/a":    {"", "/portal%73/1/a", false},
		"/portals%2f1/a":    {"", "/portals%2f1/a", false},
		"/a/portals/1/b":    {"", "/a/portals/1/b", false},
		"/portalsx/1":       {"", "/portalsx/1", false},
		"*":                 {"", "*", false},
	} {
		id, rest, found := wire.Target{Path: path, Query: "q", HasQuery: true}.PortalPrefix()
		if diff := cmp.Diff(want, result{id, rest.Path, found}); diff != "" {
			t.Errorf("%q (-want +got):\n%s", path, diff)
		}
		if rest.Query != "q" || !rest.HasQuery {
			t.Errorf("%q has lost its query", path)
		}
	}
}

func TestTheTokenEndpointIsRecognizedInAllVersions(t *testing.T) {
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
		if got := (wire.Target{Path: path}).IsTokenEndpoint(); got != want {
			t.Errorf("%q: %v", path, got)
		}
	}
}

func TestTheURLForHubSpotHasTheTargetByteForByte(t *testing.T) {
	for _, upstream := range []*url.URL{{Scheme: "https", Host: "api.hubapi.com"}, {Scheme: "http", Host: "127.0.0.1:1"}} {
		for _, raw := range []string{
			"/", "/a", "/a?", "/a??", "/a?b=%zz;c", "/a%2Fb", "/a%2fb", "//a", "//", "///", "//a//b?c", "/a/../b", "/./a", "/a/.", "/..",
			"/a|b^c{d}e\"f<g>`", "/a%20b+c", "/a;b=1;c", "/\xff", "/é", "*", "/a:b@c", "/http://a/b", "/%41",
			"//a%2Fb", "//a@b:80/c", "/%00", "/a?b=c/d?e",
		} {
			parsed, ok := wire.ParseTarget(raw)
			u := parsed.URL(upstream)
			if got := u.RequestURI(); !ok || got != raw {
				t.Errorf("%q is sent as %q", raw, got)
			}
			if u.Scheme != upstream.Scheme || u.Host != upstream.Host {
				t.Errorf("%q goes to %s://%s", raw, u.Scheme, u.Host)
			}
		}
	}
}

func TestAPathThatBeginsWithTwoSlashesAndIsInvalidInAURLIsSentInAbsoluteForm(t *testing.T) {
	upstream := &url.URL{Scheme: "https", Host: "api.hubapi.com"}
	for _, raw := range []string{"//a|b", "//a%zz", "//\xff?c", "//é/{}?"} {
		parsed, _ := wire.ParseTarget(raw)
		if got, want := parsed.URL(upstream).RequestURI(), "https://api.hubapi.com"+raw; got != want {
			t.Errorf("%q is sent as %q", raw, got)
		}
	}
}
