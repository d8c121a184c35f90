package proxy

import (
	"net/http"
	"regexp"
	"slices"
	"strings"

	"hubspot-auth-proxy/proxy/clients"
	"hubspot-auth-proxy/proxy/wire"
	"hubspot-auth-proxy/tokens/secret"
)

// Clients finds callers by their key; [clients.Set] is one. It must be safe for
// concurrent use, and quick for keys that it does not know.
type Clients interface {
	Find(key secret.Text) (client *clients.Client, known bool)
}

// identify finds out who calls, by the key that stands where SDKs put their
// credential. Whoever presents different ones presents none.
func (p *Proxy) identify(c *call) *refusal {
	presented := presentedKeys(c.request, c.target.query)
	if len(presented) == 1 && p.options.Clients != nil {
		c.client, _ = p.options.Clients.Find(secret.New(presented[0]))
	}
	if c.client != nil {
		return nil // browsers cannot know a key unless it was given to them
	}
	if refusal := p.refuseBrowser(c.request); refusal != nil {
		return refusal
	}
	if p.options.Loopback && wire.CameThroughProxy(c.request.Header) != "" {
		return clientForwarded()
	}
	// SDKs send no credential with a call of HubSpot's token endpoint, whose
	// credential is in the body.
	_, target, _ := c.target.portalPrefix()
	c.tokenCall = c.request.Method == http.MethodPost && target.isTokenEndpoint()
	anybody := p.options.AllowAnonymous
	if c.tokenCall {
		anybody = !p.options.OAuthNeedsKey
	}
	switch {
	case anybody && !slices.ContainsFunc(presented, clients.IsKey):
		return nil
	case len(presented) > 1:
		return clientAmbiguous()
	}
	return clientUnauthenticated()
}

// presentedKeys returns the values of all credentials of the request, each
// once.
func presentedKeys(r *http.Request, query string) []string {
	var keys []string
	add := func(key string) {
		if key != "" {
			keys = append(keys, key)
		}
	}
	for _, value := range r.Header["Authorization"] {
		scheme, key, _ := strings.Cut(strings.TrimSpace(value), " ")
		if strings.EqualFold(scheme, "Bearer") {
			add(strings.TrimSpace(key))
		}
	}
	for parameter := range splitQuery(query) {
		name, value, _ := strings.Cut(parameter, "=")
		if carriesCredential(name) {
			add(decode(value))
		}
	}
	slices.Sort(keys) // there may be thousands
	return slices.Compact(keys)
}

// refuseForbidden refuses what the client's key does not allow.
func (p *Proxy) refuseForbidden(c *call) *refusal {
	switch {
	case c.client == nil:
		return nil
	case c.portal != "" && !c.client.MayUse(c.portal):
		return clientForbidden("The client key may not use portal " + c.portal + ".")
	case c.client.ReadOnly && overridesMethod(c.request, c.target):
		return clientForbidden("The client key may read only, and the request asks for another method: by a header such as X-HTTP-Method-Override, or by _method in the query.")
	case c.client.ReadOnly && !readOnly(c.request, c.target):
		return clientForbidden("The client key may read only: GET, HEAD and HubSpot's search.")
	}
	return nil
}

// overridesMethod reports whether some server would take the method from a
// header field or from the query.
func overridesMethod(r *http.Request, t target) bool {
	if wire.OverridesMethod(r.Header) != "" {
		return true
	}
	for parameter := range splitQuery(t.query) {
		name, _, _ := strings.Cut(parameter, "=")
		if strings.EqualFold(trim(decode(name)), "_method") {
			return true
		}
	}
	return false
}

// search is HubSpot's search of objects, of all versions: a POST that reads.
// https://developers.hubspot.com/docs/api-reference/crm-search-v3/guide
var search = regexp.MustCompile(`^/crm/(?:v[0-9]+/objects|objects/(?:v[0-9]+|[0-9]{4}-[0-9]{2}(?:-beta)?))/[A-Za-z0-9_-]+/search$`)

// readOnly reports whether the request changes nothing at HubSpot.
func readOnly(r *http.Request, t target) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		return true
	case http.MethodPost:
		return search.MatchString(t.path) || t.isTokenEndpoint()
	}
	return false
}
