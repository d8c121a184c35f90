package clients

import (
	"net/http"
	"regexp"
	"slices"
	"strings"

	"hubspot-auth-proxy/proxy/wire"
)

// Forbids returns why the client may not send the request, as a message for the client. An
// empty string means that the client may send the request. target is the request's target,
// without the portal's prefix. portal is empty if the request needs none.
func (c *Client) Forbids(portal string, r *http.Request, target wire.Target) string {
	switch {
	case portal != "" && !c.MayUse(portal):
		return "The client key may not use portal " + portal + "."
	case (c.ReadOnly || c.Paths != nil) && wire.OverridesMethod(r.Header, target.Query):
		return "The client key may not do all, and the request asks for another method: by a header such as X-HTTP-Method-Override, or by _method in the query."
	case c.Paths != nil && wire.OverridesPath(r.Header):
		return "The client key may use some paths only, and the request asks for another path by a header: X-Original-URL or X-Rewrite-URL."
	case c.Paths != nil && !wire.IsPlainPath(target.Path):
		return "The client key may use some paths only, and servers do not agree on what this path is: it has an escape, a dot segment, a double slash or a character that is not allowed then."
	case c.Paths != nil && !slices.ContainsFunc(c.Paths, func(rule string) bool { return wire.IsUnder(target.Path, rule) }):
		return "The client key may not use this path. It may use " + strings.Join(c.Paths[:min(len(c.Paths), 10)], ", ") + ", and what is below."
	case c.ReadOnly && !reads(r.Method, target):
		return "The client key may read only: GET, HEAD, and the POSTs that only read, which are HubSpot's search, …/batch/read, …/lists/search and GraphQL."
	}
	return ""
}

// readingPOSTs match the paths of HubSpot's POSTs that only read, in all versions: search and
// batch read of objects, batch read of associations and of properties, search of lists, and
// GraphQL, which has no mutations at HubSpot.
// https://developers.hubspot.com/docs/api-reference/crm-search-v3/guide
// https://developers.hubspot.com/docs/cms/start-building/features/data-driven-content/graphql/query-hubspot-data-using-graphql
var readingPOSTs = regexp.MustCompile(`^(?:` +
	inAllVersions("objects") + `/[A-Za-z0-9_-]+/(?:search|batch/read)|` +
	inAllVersions("associations") + `/[A-Za-z0-9_-]+/[A-Za-z0-9_-]+/batch/read|` +
	inAllVersions("properties") + `/[A-Za-z0-9_-]+/batch/read|` +
	inAllVersions("lists") + `/search|` +
	`/collector/graphql)$`)

// inAllVersions returns an expression for the path of a part of HubSpot's CRM API:
// /crm/v3/objects, /crm/objects/v3, /crm/objects/2026-03.
func inAllVersions(part string) string {
	return `/crm/(?:v[0-9]+/` + part + `|` + part + `/(?:v[0-9]+|[0-9]{4}-[0-9]{2}(?:-beta)?))`
}

// reads reports whether the request changes nothing at HubSpot.
func reads(method string, target wire.Target) bool {
	switch method {
	case http.MethodGet, http.MethodHead:
		return true
	case http.MethodPost:
		return readingPOSTs.MatchString(target.Path) || target.IsTokenEndpoint()
	}
	return false
}
