package proxy

import (
	"net/url"
	"regexp"
	"strings"
)

// target is what a request line asks for, in the very bytes that the client
// sent.
type target struct {
	path     string // begins with a slash, or is *
	query    string // without its question mark
	hasQuery bool   // there is a question mark
}

// parseTarget takes a request's target apart (RFC 9112 section 3.2). Of the
// absolute form only path and query count: whatever host it names, the request
// goes to HubSpot.
func parseTarget(raw string) (t target, ok bool) {
	if strings.ContainsFunc(raw, endsTarget) {
		return target{}, false
	}
	if !strings.HasPrefix(raw, "/") && raw != "*" {
		scheme, afterScheme, absolute := strings.Cut(raw, "://")
		if !absolute || scheme == "" || strings.ContainsAny(scheme, ":/?#") {
			return target{}, false
		}
		raw = "/"
		if i := strings.IndexAny(afterScheme, "/?"); i >= 0 {
			raw = afterScheme[i:]
		}
		if raw[0] == '?' {
			raw = "/" + raw
		}
	}
	t.path, t.query, t.hasQuery = strings.Cut(raw, "?")
	return t, true
}

// endsTarget reports whether the character would end the target on a request
// line of HTTP/1. HTTP/2, which has no such line, lets clients send a space.
func endsTarget(c rune) bool { return c <= ' ' || c == 0x7f }

// endsToken reports whether the character can be in no method, and in no
// name of a header (RFC 9110 section 5.6.2).
func endsToken(c rune) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return false
	}
	return !strings.ContainsRune("!#$%&'*+-.^_`|~", c)
}

// portalPrefix returns the id of a path that begins with /portals/{id}, and
// the target without it. It looks at the raw path only: what means a slash or
// a digit when it is decoded is none here.
func (t target) portalPrefix() (id string, rest target, found bool) {
	after, found := strings.CutPrefix(t.path, "/portals/")
	if !found {
		return "", t, false
	}
	id, t.path, _ = strings.Cut(after, "/")
	t.path = "/" + t.path
	return id, t, true
}

// isOAuth reports whether the target is one of HubSpot's OAuth endpoints, to
// which callers bring their own credential.
func (t target) isOAuth() bool { return strings.HasPrefix(t.path, "/oauth/") }

// tokenEndpoint is HubSpot's token endpoint, in all versions: v1, v3, 2026-03.
var tokenEndpoint = regexp.MustCompile(`^/oauth/(?:v[0-9]+|[0-9]{4}-(?:0[1-9]|1[0-2]))/token$`)

// isTokenEndpoint reports whether the target is HubSpot's token endpoint.
func (t target) isTokenEndpoint() bool { return tokenEndpoint.MatchString(t.path) }

// strip removes the credentials from the query.
func (t *target) strip() {
	stripped := stripQuery(t.query)
	if stripped == "" && t.query != "" {
		t.hasQuery = false
	}
	t.query = stripped
}

// url returns the target's URL at the upstream, such that net/http writes the
// target's own bytes.
func (t target) url(upstream *url.URL) *url.URL {
	u := &url.URL{Scheme: upstream.Scheme, Host: upstream.Host, RawQuery: t.query, ForceQuery: t.hasQuery}
	if !strings.HasPrefix(t.path, "//") {
		u.Opaque = t.path
		return u
	}
	// net/http would take an opaque //a for an authority. Most such paths are
	// written as they are in another way; the rest has bytes that no URL may
	// have, and goes in absolute form, which every server has to understand.
	if path, err := url.PathUnescape(t.path); err == nil {
		u.Path, u.RawPath = path, t.path
		if u.EscapedPath() == t.path {
			return u
		}
	}
	u.Path, u.RawPath = "", ""
	u.Opaque = "//" + upstream.Host + t.path
	return u
}
