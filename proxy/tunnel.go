package proxy

import (
	"net/http"
	"strings"

	"hubspot-auth-proxy/proxy/clients"
	"hubspot-auth-proxy/proxy/intercept"
	"hubspot-auth-proxy/proxy/wire"
)

// admitTunnel decides whether a CONNECT request opens a tunnel. The rights of the client are
// checked for each request inside the tunnel.
func (g *gate) admitTunnel(r *http.Request) (a admission, refused *refusal) {
	a.target.Path = r.RequestURI // for the access log
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

// identifyInTunnel calls identify. For a request in a tunnel it has another message, because
// the key was valid when the tunnel was opened.
func (g *gate) identifyInTunnel(r *http.Request, a *admission) *refusal {
	refused := g.identify(r, a)
	if a.tunnel != nil && refused != nil && refused.category == "CLIENT_UNAUTHENTICATED" {
		return tunnelUnauthenticated()
	}
	return refused
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

// tunnelEnds reports whether the answer must close the tunnel, because its key is no longer
// valid. The client then opens another tunnel.
func (c *call) tunnelEnds() bool {
	return c.tunnel != nil && c.refused == "CLIENT_UNAUTHENTICATED" && c.request.Method != http.MethodConnect
}

func connectRefused(names []string) *refusal {
	return &refusal{
		category: "CONNECT_REFUSED",
		message:  "The proxy opens tunnels to port 443 of " + strings.Join(names, ", ") + " only. Configure the client to call other servers directly, for example by NO_PROXY.",
	}
}

// proxyUnauthenticated refuses a CONNECT request.
func proxyUnauthenticated() *refusal {
	return &refusal{
		category:  "CLIENT_UNAUTHENTICATED",
		message:   "No known client key was sent. Give it as the password of the HTTPS proxy: HTTPS_PROXY=http://{portal id}:hap_…@{host}:{port}. The proxy's operator makes client keys with the command client add.",
		toConnect: true,
	}
}

// tunnelUnauthenticated refuses a request in a tunnel whose key is no longer valid.
func tunnelUnauthenticated() *refusal {
	return &refusal{
		category: "CLIENT_UNAUTHENTICATED",
		message:  "The client key that the tunnel was opened with is no longer valid. Give the client another one as the password of the HTTPS proxy. The proxy's operator makes client keys with the command client add.",
	}
}
