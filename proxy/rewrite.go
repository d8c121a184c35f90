package proxy

import (
	"net/http"
	"net/http/httputil"
	"net/textproto"
	"strings"
)

// rewrite makes the request that HubSpot gets of the one that the client sent:
// its raw target, and its header without credentials and what is ours. The
// portal's credential is attached later, where an error can be returned.
func (p *Proxy) rewrite(r *httputil.ProxyRequest) {
	c := callOf(r.In.Context())
	c.target.strip()
	r.Out.URL = c.target.url(p.options.Upstream)
	r.Out.Host = "" // the upstream's
	header := r.Out.Header
	// ReverseProxy keeps Connection and Upgrade where they belong together, but
	// no other protocol is spoken here. Java's client offers h2c on every
	// request.
	for _, name := range []string{"Authorization", portalHeader, debugHeader, "Connection", "Upgrade"} {
		delete(header, name)
	}
	restore(header, r.In.Header)
	disguise(header)
	c.announce(r.In.Trailer)
	r.Out.Trailer = nil // each attempt gets its own
}

// restore puts back what ReverseProxy has removed for the sake of servers that
// trust it. HubSpot gets what the client sent, and nothing that we add.
func restore(header, sent http.Header) {
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		if values, has := sent[name]; has && !hopByHop(sent, name) {
			header[name] = values
		}
	}
}

// hopByHop reports whether Connection names the header (RFC 9110 section
// 7.6.1).
func hopByHop(header http.Header, name string) bool {
	for _, value := range header["Connection"] {
		for token := range strings.SplitSeq(value, ",") {
			if strings.EqualFold(textproto.TrimString(token), name) {
				return true
			}
		}
	}
	return false
}

// disguise hides the headers that make http.Transport send a POST again on
// another connection, although HubSpot may have received it: it looks for them
// by their canonical names only, and their case means nothing to HubSpot.
func disguise(header http.Header) {
	for _, name := range []string{"Idempotency-Key", "X-Idempotency-Key"} {
		if values, has := header[name]; has {
			delete(header, name)
			header[strings.ToLower(name)] = values
		}
	}
}
