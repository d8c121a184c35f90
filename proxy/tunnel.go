package proxy

import (
	"net/http"
	"strings"

	"hubspot-auth-proxy/proxy/clients"
	"hubspot-auth-proxy/proxy/intercept"
	"hubspot-auth-proxy/proxy/wire"
)

// admitTunnel decides whether a CONNECT request opens a tunnel. The rights of
// the key are decided on for each request inside.
func (g *gate) admitTunnel(r *http.Request) (a admission, refused *refusal) {
	a.target.Path = r.RequestURI // for the log
	name, ok := g.intercept.Target(r.RequestURI)
	switch {
	case r.ProtoMajor != 1:
		return a, methodRefused("CONNECT over HTTP/2")
	case !ok:
		return a, connectRefused(g.intercept.Names())
	case hasBody(r):
		return a, requestInvalid("A CONNECT request has no body.")
	case wire.FromPage(r.Header):
		return a, fromPage()
	}
	user, key, ok := intercept.Credentials(r.Header)
	if !ok || clients.IsKey(user) {
		return a, proxyUnauthenticated()
	}
	a.tunnel = &intercept.Tunnel{Name: name, User: user, Key: key}
	refused = g.identify(r, &a)
	if refused != nil && refused.category == "CLIENT_UNAUTHENTICATED" {
		refused = proxyUnauthenticated()
	}
	return a, refused
}

// refuseInTunnel refuses a request in a tunnel that is for another server than
// the tunnel leads to, or that comes from a web page.
//
// Pages are refused even if the tunnel has a client key: a browser that knows
// the key as the password of its HTTPS proxy sends every page's requests with
// that key.
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

// identifyInTunnel is identify, for requests in tunnels too. The key may have
// been revoked since the tunnel was opened.
func (g *gate) identifyInTunnel(r *http.Request, a *admission) *refusal {
	refused := g.identify(r, a)
	if a.tunnel != nil && refused != nil && refused.category == "CLIENT_UNAUTHENTICATED" {
		return tunnelUnauthenticated()
	}
	return refused
}

// presentedKeys returns what the request presents as its client key, each value
// once. In a tunnel that is what its CONNECT request presented.
func presentedKeys(r *http.Request, a *admission) []string {
	switch {
	case a.tunnel == nil:
		return wire.Credentials(r.Header, a.target.Query)
	case a.tunnel.Key.IsZero():
		return nil
	}
	return []string{a.tunnel.Key.Reveal()}
}

// tunnelEnds reports whether the tunnel must end with the answer, so that the
// client opens another one, with a key that is known.
func (c *call) tunnelEnds() bool {
	return c.tunnel != nil && c.refused == "CLIENT_UNAUTHENTICATED" && c.request.Method != http.MethodConnect
}

func connectRefused(names []string) *refusal {
	return &refusal{
		category: "CONNECT_REFUSED",
		message:  "The proxy opens tunnels to port 443 of " + strings.Join(names, ", ") + " only. Let the client call other servers without it, for example by NO_PROXY.",
	}
}

// proxyUnauthenticated refuses a CONNECT request.
func proxyUnauthenticated() *refusal {
	return &refusal{
		category:  "CLIENT_UNAUTHENTICATED",
		message:   "A client key is needed, and none that is known was sent. Give it as the password of the HTTPS proxy: HTTPS_PROXY=http://{portal id}:hap_…@{host}:{port}; the proxy's operator gives it out, by the command client add.",
		toConnect: true,
	}
}

// tunnelUnauthenticated refuses a request in a tunnel whose key was known when
// the tunnel was opened.
func tunnelUnauthenticated() *refusal {
	return &refusal{
		category: "CLIENT_UNAUTHENTICATED",
		message:  "The client key that the tunnel was opened with is not accepted any more. Give the client another as the password of the HTTPS proxy; the proxy's operator gives it out, by the command client add.",
	}
}
