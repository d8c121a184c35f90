package wire

import (
	"net/url"
	"regexp"
	"strings"
)

// Target is the target of a request line, byte for byte as the client sent it.
type Target struct {
	Path     string // begins with a slash, or is *
	Query    string // without the question mark
	HasQuery bool   // whether the target has a question mark
}

// ParseTarget parses a request's target (RFC 9112 section 3.2). Of a target in
// absolute form, ParseTarget keeps the path and the query only: the request goes to
// HubSpot, whatever host the target names. ok is false if raw is not a valid target.
func ParseTarget(raw string) (t Target, ok bool) {
	if strings.ContainsFunc(raw, endsTarget) {
		return Target{}, false
	}
	if !strings.HasPrefix(raw, "/") && raw != "*" {
		scheme, afterScheme, absolute := strings.Cut(raw, "://")
		if !absolute || scheme == "" || strings.ContainsAny(scheme, ":/?#") {
			return Target{}, false
		}
		raw = "/"
		if i := strings.IndexAny(afterScheme, "/?"); i >= 0 {
			raw = afterScheme[i:]
		}
		if raw[0] == '?' {
			raw = "/" + raw
		}
	}
	t.Path, t.Query, t.HasQuery = strings.Cut(raw, "?")
	return t, true
}

// endsTarget reports whether the character would end the target on a request
// line of HTTP/1. HTTP/2, which has no such line, lets clients send a space. A # begins
// a fragment, which no target has; a credential after it would not be in the query.
func endsTarget(c rune) bool { return c <= ' ' || c == 0x7f || c == '#' }

// PortalPrefix returns the id of a path that begins with /portals/{id}, and the target
// that HubSpot gets: without this prefix, and beginning with /oauth/ instead of
// //oauth/. found is false if the path has no such prefix. PortalPrefix does not decode
// the path, so an escaped slash or digit does not count as a slash or digit, and does
// not check that the id is one.
func (t Target) PortalPrefix() (id string, rest Target, found bool) {
	after, found := strings.CutPrefix(t.Path, "/portals/")
	if found {
		id, t.Path, _ = strings.Cut(after, "/")
		t.Path = "/" + t.Path
	}
	if strings.HasPrefix(t.Path, "//oauth/") {
		// SDKs send this path if their base URL ends in a slash.
		t.Path = t.Path[1:]
	}
	return id, t, found
}

// IsOAuth reports whether the target is one of HubSpot's OAuth endpoints. A request
// to such an endpoint carries its own credential.
func (t Target) IsOAuth() bool { return strings.HasPrefix(t.Path, "/oauth/") }

// tokenEndpoint is HubSpot's token endpoint, in all versions: v1, v3, 2026-03.
var tokenEndpoint = regexp.MustCompile(`^/oauth/(?:v[0-9]+|[0-9]{4}-(?:0[1-9]|1[0-2]))/token$`)

// IsTokenEndpoint reports whether the target is HubSpot's token endpoint.
func (t Target) IsTokenEndpoint() bool { return tokenEndpoint.MatchString(t.Path) }

// objectSearch is HubSpot's search of CRM objects, in all versions.
var objectSearch = regexp.MustCompile(`^/crm/(?:v[0-9]+/objects|objects/(?:v[0-9]+|[0-9]{4}-[0-9]{2}(?:-beta)?))/[^/]+/search$`)

// IsObjectSearch reports whether the target, with the method POST, is HubSpot's search
// of CRM objects, which has a rate limit of its own.
func (t Target) IsObjectSearch() bool {
	return strings.HasSuffix(t.Path, "/search") && objectSearch.MatchString(t.Path)
}

// Strip removes the credentials from the query. If the query had nothing else, Strip
// removes the question mark too.
func (t *Target) Strip() {
	stripped := StripQuery(t.Query)
	if stripped == "" && t.Query != "" {
		t.HasQuery = false
	}
	t.Query = stripped
}

// URL returns the target's URL at the upstream. net/http writes the target of this URL
// byte for byte as the client sent it.
func (t Target) URL(upstream *url.URL) *url.URL {
	u := &url.URL{Scheme: upstream.Scheme, Host: upstream.Host, RawQuery: t.Query, ForceQuery: t.HasQuery}
	if !strings.HasPrefix(t.Path, "//") {
		u.Opaque = t.Path
		return u
	}
	// net/http would read an opaque //a as an authority. Most such paths can be set
	// as Path and RawPath instead. A path with bytes that no URL may have is sent in
	// absolute form, which every server has to understand.
	if path, err := url.PathUnescape(t.Path); err == nil {
		u.Path, u.RawPath = path, t.Path
		if u.EscapedPath() == t.Path {
			return u
		}
	}
	u.Path, u.RawPath = "", ""
	u.Opaque = "//" + upstream.Host + t.Path
	return u
}
