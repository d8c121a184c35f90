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
	*Options
	hosts wire.Hosts // host names that calls without a client key may use
}

func newGate(options *Options) *gate {
	return &gate{options, wire.Hosts{Loopback: options.Loopback, Domain: options.PortalDomain, Allowed: options.AllowedHosts}}
}

// admit runs the gate's checks in order: is the request an API call, who sends it, for which
// portal, and may the client do that. If the request is refused, the admission contains
// what was found before that, for the access log. The order of the steps is a promise: a
// client without rights to a portal does not learn whether the portal is connected.
func (g *gate) admit(r *http.Request) (a admission, refused *refusal) {
	if g.Intercept != nil {
		a.tunnel = intercept.From(r.Context())
	}
	for _, step := range []func(*http.Request, *admission) *refusal{
		g.refuse, g.refuseInTunnel, g.identify, g.refuseKey, g.route, g.authorize,
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
	case http.MethodTrace:
		return traceRefused()
	case http.MethodConnect:
		if g.Intercept == nil {
			return connectNotOffered()
		}
		return connectMisplaced() // over HTTP/2, or in a tunnel
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
		return requestInvalid("The request's target is neither a path nor an absolute URL, or has a fragment (#). Write # in a path or a query as %23.")
	}
	a.target = target
	return nil
}

// refuseInTunnel refuses a request in a tunnel if its Host is not the tunnel's server, or if
// a web page sent it.
//
// Web pages are refused even though the tunnel has a client key: a browser that has the key
// as its proxy password uses it for the requests of every page.
func (g *gate) refuseInTunnel(r *http.Request, a *admission) *refusal {
	switch {
	case a.tunnel == nil:
		return nil
	case !a.tunnel.LeadsTo(r.Host):
		return requestInvalid("The request's Host is not the server that its tunnel was opened to, " + a.tunnel.Name + ".")
	case wire.FromPage(r.Header):
		return fromPage()
	}
	return nil
}

// identify finds the client. For a tunnel the refusal has another message, because the key
// is in the CONNECT request.
func (g *gate) identify(r *http.Request, a *admission) *refusal {
	refused := g.findClient(r, a)
	switch {
	case a.tunnel == nil || refused == nil || refused.category != "CLIENT_UNAUTHENTICATED":
		return refused
	case r.Method == http.MethodConnect:
		return proxyUnauthenticated(!a.key.IsZero())
	default:
		return tunnelUnauthenticated()
	}
}

// findClient finds the client by its key, which is wherever an SDK puts its credential.
// A request with several different keys counts as one without a key: a.key stays empty. It
// also stays empty if Clients is nil, so code that has checked a.key needs no check of Clients.
func (g *gate) findClient(r *http.Request, a *admission) *refusal {
	presented := presentedKeys(r, a)
	if len(presented) == 1 && g.Clients != nil {
		a.key = secret.New(presented[0])
		a.client = g.Clients.Find(a.key)
	}
	if a.client != nil {
		return nil // the key proves that no unknown web page sends this
	}
	if clients.IsKey(a.key.Reveal()) && !g.Clients.Loaded() {
		// The key may be one that is not loaded yet, and then proves what the checks
		// below ask for.
		return clientsUnavailable()
	}
	if !a.key.IsZero() && g.Clients.Expired(a.key) {
		return clientExpired()
	}
	switch {
	case wire.FromPage(r.Header):
		return fromPage()
	case a.tunnel == nil && !g.hosts.Accept(r.Host):
		return foreignHost(g.Loopback)
	case g.Loopback && wire.CameThroughProxy(r):
		return clientForwarded(!a.key.IsZero())
	}
	// SDKs send no credential with a call of HubSpot's token endpoint, whose
	// credential is in the body.
	_, target, _ := a.target.PortalPrefix()
	a.tokenCall = r.Method == http.MethodPost && target.IsTokenEndpoint()
	anonymous := g.AllowAnonymous
	if a.tokenCall {
		anonymous = !g.OAuthNeedsKey
	}
	switch {
	case anonymous && !slices.ContainsFunc(presented, clients.IsKey):
		return nil
	case len(presented) > 1:
		return clientAmbiguous()
	case !a.key.IsZero() && !g.Clients.Loaded():
		// A client's key need not have the form of IsKey. A text of another form is not
		// refused earlier, because it may be the placeholder of a call that needs no key.
		return clientsUnavailable()
	}
	return clientUnauthenticated(!a.key.IsZero())
}

// presentedKeys returns the distinct values that the request presents as its client key. For
// a request in a tunnel it returns the key of the CONNECT request.
func presentedKeys(r *http.Request, a *admission) []string {
	switch {
	case a.tunnel == nil:
		return wire.Credentials(r.Header, a.target.Query)
	case a.tunnel.Key.IsZero():
		return nil
	}
	return []string{a.tunnel.Key.Reveal()}
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

// A portalName is a text by which a request names its portal.
type portalName struct {
	id    string
	place place
}

// A place is where a request names its portal.
type place int

const (
	inPath   place = iota // /portals/62515/crm/…
	inHost                // 62515.localhost
	inTunnel              // the user name of the tunnel; only a valid id counts
	inHeader              // X-HubSpot-Portal-Id
)

// route finds the portal of the request. A request can name it by path prefix, host name,
// user name of the tunnel, or header. If the request names none, choosePortal decides.
// HubSpot's own OAuth endpoints need no portal.
func (g *gate) route(r *http.Request, a *admission) *refusal {
	var named []portalName
	prefix, rest, hasPrefix := a.target.PortalPrefix()
	if hasPrefix {
		named = append(named, portalName{prefix, inPath})
	}
	if below := g.hosts.Below(r.Host); below != "" {
		named = append(named, portalName{below, inHost})
	}
	if a.tunnel != nil && hubspot.ValidPortal(a.tunnel.User) {
		named = append(named, portalName{a.tunnel.User, inTunnel})
	}
	for _, id := range r.Header[wire.PortalHeader] {
		named = append(named, portalName{id, inHeader})
	}
	for _, name := range named {
		switch {
		case !hubspot.ValidPortal(name.id):
			return portalInvalid(name.place, g.PortalDomain)
		case name.id != named[0].id:
			return portalConflict()
		}
	}
	a.target = rest
	if len(named) > 0 {
		a.named = named[0].id
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
	case g.DefaultPortal != "":
		a.portal = g.DefaultPortal
	default:
		return portalRequired()
	}
	return nil
}

// authorize refuses a request that exceeds the client's rights, and a portal that this
// process does not serve.
func (g *gate) authorize(r *http.Request, a *admission) *refusal {
	if a.client != nil {
		if why := a.client.Forbids(a.portal, r, a.target); why != "" {
			return newRefusal("CLIENT_FORBIDDEN", why)
		}
	}
	if _, served := slices.BinarySearch(g.ServePortals, a.portal); !served && a.portal != "" && len(g.ServePortals) > 0 {
		return portalNotServed(a.portal)
	}
	return nil
}

// admitTunnel decides whether a CONNECT request opens a tunnel. The rights of the client are
// checked for each request inside the tunnel.
func (g *gate) admitTunnel(r *http.Request) (a admission, refused *refusal) {
	a.target.Path = r.RequestURI // for the access log
	name, ok := g.Intercept.Target(r.RequestURI)
	switch {
	case r.ProtoMajor != 1:
		return a, connectMisplaced()
	case !ok:
		return a, connectRefused(g.Intercept.Names())
	case hasBody(r):
		return a, requestInvalid("A CONNECT request has no body.")
	case wire.FromPage(r.Header):
		return a, fromPage()
	}
	user, key, ok := intercept.Credentials(r.Header)
	if !ok || clients.IsKey(user) {
		return a, proxyMisauthenticated()
	}
	a.tunnel = &intercept.Tunnel{Name: name, User: user, Key: key}
	refused = g.identify(r, &a)
	return a, refused
}
