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

// gate decides which requests are forwarded, and for which portal. It is safe for
// concurrent use.
type gate struct {
	intercept     *intercept.Authority // certificates of tunnels; nil means that there are no tunnels
	clients       Clients              // nil means that there are no client keys
	hosts         wire.Hosts           // host names that calls without a client key may use
	anonymous     bool                 // calls need no client key
	oauthNeedsKey bool                 // calls of HubSpot's token endpoint need a client key
	defaultPortal string               // empty means that calls must name a portal
	served        map[string]bool      // portals that this process serves; nil means all
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

// admit decides whether the request is forwarded, and for which portal. If the request is
// refused, the admission contains what was found before that, for the access log. The
// order of the steps is a promise: a client without rights to a portal does not learn
// whether the portal is connected.
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

// refuse refuses requests that are malformed or cannot be API calls.
func (g *gate) refuse(r *http.Request, a *admission) *refusal {
	switch r.Method {
	case http.MethodConnect, http.MethodTrace:
		return methodRefused(r.Method)
	case "PRI":
		// A connection that begins with HTTP/2's preface and does not continue as
		// HTTP/2: net/http's server passes the preface to the handler as an HTTP/2
		// request. As HTTP/1, mustClose closes the connection.
		r.ProtoMajor, r.ProtoMinor = 1, 1
		return requestInvalid("The connection begins with the preface of HTTP/2, and does not continue as HTTP/2 (RFC 9113 section 3.4).")
	}
	if !wire.IsToken(r.Method) {
		// Over HTTP/2, net/http's server does not check this.
		return requestInvalid("The request's method contains a space, or another character that a method cannot have.")
	}
	if !wire.HasPlainLength(r.Header) {
		// Over HTTP/2, net/http's server treats such a length as 0.
		return requestInvalid("The request's Content-Length is not one decimal number.")
	}
	target, ok := wire.ParseTarget(r.RequestURI)
	if !ok {
		return requestInvalid("The request's target is neither a path nor an absolute URL.")
	}
	a.target = target
	return nil
}

// identify finds the client by its key. The key is wherever an SDK puts its credential.
// A request with several different keys counts as one without a key.
func (g *gate) identify(r *http.Request, a *admission) *refusal {
	presented := presentedKeys(r, a)
	if len(presented) == 1 && g.clients != nil {
		a.key = secret.New(presented[0])
		a.client, _ = g.clients.Find(a.key)
	}
	if a.client != nil {
		return nil // the key proves that no unknown web page sends this
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

// refuseKey refuses a request that has a client key in a part of its request line that is
// forwarded to HubSpot.
func (g *gate) refuseKey(r *http.Request, a *admission) *refusal {
	stripped := a.target
	stripped.Strip()
	for _, part := range []string{r.Method, stripped.Path, stripped.Query} {
		if wire.CarriesClientKey(part) || wire.Carries(part, a.clientKey().Reveal()) {
			return requestInvalid("The request's method, path or query contains a client key, which must not reach HubSpot. Send the key as Authorization: Bearer hap_… only.")
		}
	}
	return nil
}

// route finds the portal of the request. A request can name it by path prefix, host name,
// user name of the tunnel, or header. If the request names none, choosePortal decides.
// HubSpot's own OAuth endpoints need no portal.
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

// choosePortal sets the portal to the first that exists of: the one that the request
// names, the only one that the client may use, the default portal.
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

// authorize refuses a request that exceeds the client's rights.
func (g *gate) authorize(r *http.Request, a *admission) *refusal {
	if a.client != nil {
		if why := a.client.Forbids(a.portal, r, a.target); why != "" {
			return clientForbidden(why)
		}
	}
	return nil
}

// refuseUnserved refuses a portal that is not in SERVE_PORTALS.
func (g *gate) refuseUnserved(_ *http.Request, a *admission) *refusal {
	if a.portal != "" && g.served != nil && !g.served[a.portal] {
		return portalNotServed(a.portal)
	}
	return nil
}
