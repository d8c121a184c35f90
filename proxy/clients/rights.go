package clients

import (
	"net/http"
	"regexp"

	"hubspot-auth-proxy/proxy/wire"
)

// Forbids returns why the client may not send the request, and nothing if it may.
// The target is the request's, without a portal's prefix; the portal is empty if
// the request needs none.
func (c *Client) Forbids(portal string, r *http.Request, target wire.Target) string {
	switch {
	case portal != "" && !c.MayUse(portal):
		return "The client key may not use portal " + portal + "."
	case c.ReadOnly && wire.OverridesMethod(r.Header, target.Query):
		return "The client key may read only, and the request asks for another method: by a header such as X-HTTP-Method-Override, or by _method in the query."
	case c.ReadOnly && !reads(r.Method, target):
		return "The client key may read only: GET, HEAD and HubSpot's search."
	}
	return ""
}

// search is HubSpot's search of objects, of all versions: a POST that reads.
// https://developers.hubspot.com/docs/api-reference/crm-search-v3/guide
var search = regexp.MustCompile(`^/crm/(?:v[0-9]+/objects|objects/(?:v[0-9]+|[0-9]{4}-[0-9]{2}(?:-beta)?))/[A-Za-z0-9_-]+/search$`)

// reads reports whether the request changes nothing at HubSpot.
func reads(method string, target wire.Target) bool {
	switch method {
	case http.MethodGet, http.MethodHead:
		return true
	case http.MethodPost:
		return search.MatchString(target.Path) || target.IsTokenEndpoint()
	}
	return false
}
