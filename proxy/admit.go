package proxy

import (
	"net/http"
	"slices"

	"hubspot-auth-proxy/proxy/clients"
	"hubspot-auth-proxy/proxy/intercept"
	"hubspot-auth-proxy/proxy/wire"
	"hubspot-auth-proxy/tokens/hubspot"
	"hubspot-auth-proxy/tokens/secret"
)

// gate decides which requests go on. It is safe for concurrent use.
type gate struct {
	intercept     *intercept.Authority // of tunnels; nil means that there are none
	clients       Clients              // nil means that there are none
	hosts         wire.Hosts           // by which calls without a client key may come
	anonymous     bool                 // calls need no client key
	oauthNeedsKey bool                 // nor does HubSpot's token endpoint, if this is false
	defaultPortal string               // empty means that calls must name one
	served        map[string]bool      // nil means all
}

func newGate(options Options) *gate {
	g := &gate{
		intercept:     options.Intercept,
		clients:       options.Clients,
		hosts:         wire.Hosts{Loopback: options.Loopback, Domain: options.PortalDomain, Allowed: options.AllowedHosts},
		anonymous:     options.AllowAnonymous,
		oauthNeedsKey: options.OAuthNeedsKey,
		defaultPortal: options.DefaultPortal,
	}
	for _, portal := range options.ServePortals {
		if g.served == nil {
			g.served = make(map[string]bool)
		}
		g.served[portal] = true
	}
	return g
}

// admit decides whether and for which portal the request goes on. A refused
// request's admission has what was found until then, for the log. The order is a
// promise: a client without rights to a portal does not learn whether the portal
// is connected.
func (g *gate) admit(r *http.Request) (a admission, refused *refusal) {
	if g.intercept != nil {
		a.tunnel = intercept.From(r.Context())
	}
	for _, step := range []func(*http.Request, *admission) *refusal{
		g.refuse, g.refuseInTunnel, g.identifyInTunnel, g.refuseKey, g.route, g.authorize, g.refuseUnserved,
	} {
		if refused = step(r, &a); refused != nil {
			break
		}
	}
	return a, refused
}

// refuse refuses what is no call of an API, before anything is looked up.
func (g *gate) refuse(r *http.Request, a *admission) *refusal {
	switch r.Method {
	case http.MethodConnect, http.MethodTrace:
		return methodRefused(r.Method)
	case "PRI":
		// net/http's server lets it through as a request of HTTP/2, on a connection
		// that speaks HTTP/1, which is to end.
		r.ProtoMajor, r.ProtoMinor = 1, 1
		return requestInvalid("The request begins as HTTP/2 does, and does not go on so (RFC 9113 section 3.4).")
	}
	if !wire.IsToken(r.Method) {
		// Over HTTP/2, net/http's server lets such through.
		return requestInvalid("The request's method is none of HTTP's: it has a space, or another character that no method has.")
	}
	if !wire.HasPlainLength(r.Header) {
		// Over HTTP/2, net/http's server takes such a length for 0.
		return requestInvalid("The request's Content-Length is not one decimal number.")
	}
	target, ok := wire.ParseTarget(r.RequestURI)
	if !ok {
		return requestInvalid("The request's target is neither a path nor an absolute URL.")
	}
	a.target = target
	return nil
}

// identify finds out who calls, by the key that stands where SDKs put their
// credential. Whoever presents different ones presents none.
func (g *gate) identify(r *http.Request, a *admission) *refusal {
	presented := presentedKeys(r, a)
	if len(presented) == 1 && g.clients != nil {
		a.key = secret.New(presented[0])
		a.client, _ = g.clients.Find(a.key)
	}
	if a.client != nil {
		return nil // browsers cannot know a key unless it was given to them
	}
	if clients.IsKey(a.key.Reveal()) && !g.clients.Loaded() {
		return clientsUnavailable()
	}
	if !a.key.IsZero() && g.clients.Expired(a.key) {
		return clientExpired()
	}
	switch {
	case wire.FromPage(r.Header):
		return fromPage()
	case a.tunnel == nil && !g.hosts.Accept(r.Host):
		return foreignHost(g.hosts.Loopback)
	case g.hosts.Loopback && wire.CameThroughProxy(r):
		return clientForwarded()
	}
	// SDKs send no credential with a call of HubSpot's token endpoint, whose
	// credential is in the body.
	_, target, _ := a.target.PortalPrefix()
	a.tokenCall = r.Method == http.MethodPost && target.IsTokenEndpoint()
	anybody := g.anonymous
	if a.tokenCall {
		anybody = !g.oauthNeedsKey
	}
	switch {
	case anybody && !slices.ContainsFunc(presented, clients.IsKey):
		return nil
	case len(presented) > 1:
		return clientAmbiguous()
	case !a.key.IsZero() && !g.clients.Loaded():
		return clientsUnavailable()
	}
	return clientUnauthenticated()
}

// refuseKey refuses a request line that has a client key where the key would go on
// to HubSpot.
func (g *gate) refuseKey(r *http.Request, a *admission) *refusal {
	stripped := a.target
	stripped.Strip()
	for _, part := range []string{r.Method, stripped.Path, stripped.Query} {
		if wire.CarriesClientKey(part) || wire.Carries(part, a.clientKey().Reveal()) {
			return requestInvalid("The request's method, path or query has a client key, which must not reach HubSpot. Send it as Authorization: Bearer hap_… only.")
		}
	}
	return nil
}

// route finds the portal that the request is for: by path prefix, host name,
// user name of the tunnel, header, the only one of the client's, or default. HubSpot's own OAuth endpoints
// need none.
func (g *gate) route(r *http.Request, a *admission) *refusal {
	var named []string
	prefix, rest, hasPrefix := a.target.PortalPrefix()
	if hasPrefix {
		named = append(named, prefix)
	}
	if below := g.hosts.Below(r.Host); below != "" {
		named = append(named, below)
	}
	if a.tunnel != nil && hubspot.ValidPortal(a.tunnel.User) {
		named = append(named, a.tunnel.User)
	}
	named = append(named, r.Header[wire.PortalHeader]...)
	for _, id := range named {
		switch {
		case !hubspot.ValidPortal(id):
			return portalInvalid()
		case id != named[0]:
			return portalConflict()
		}
	}
	a.target = rest
	if len(named) > 0 {
		a.named = named[0]
	}
	if a.target.IsOAuth() {
		return nil
	}
	return g.choosePortal(a)
}

// choosePortal finds the portal of a request that needs one.
func (g *gate) choosePortal(a *admission) *refusal {
	switch {
	case a.named != "":
		a.portal = a.named
	case a.client != nil && a.client.OnlyPortal() != "":
		a.portal = a.client.OnlyPortal()
	case g.defaultPortal != "":
		a.portal = g.defaultPortal
	default:
		return portalRequired()
	}
	return nil
}

// authorize refuses what the client's key does not allow.
func (g *gate) authorize(r *http.Request, a *admission) *refusal {
	if a.client != nil {
		if why := a.client.Forbids(a.portal, r, a.target); why != "" {
			return clientForbidden(why)
		}
	}
	return nil
}

// refuseUnserved refuses portals that this process is not to serve.
func (g *gate) refuseUnserved(_ *http.Request, a *admission) *refusal {
	if a.portal != "" && g.served != nil && !g.served[a.portal] {
		return portalNotServed(a.portal)
	}
	return nil
}
