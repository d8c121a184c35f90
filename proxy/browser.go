package proxy

import (
	"net/http"
	"strings"
)

// refuseBrowser refuses what a web page sends: a page must not reach a portal
// through a proxy that its reader can reach. That includes DNS rebinding, where
// the page's own host name leads to the proxy.
func (p *Proxy) refuseBrowser(r *http.Request) *refusal {
	switch {
	case fromPage(r.Header):
		return browserRefused("Calls from web pages are refused. Call the proxy from a server, without the headers Origin and Sec-Fetch-*.")
	case p.hosts.Accept(r.Host):
		return nil
	case p.hosts.Loopback:
		return browserRefused("This proxy listens on loopback and answers calls without a known client key to localhost and loopback addresses only. Use http://localhost or http://127.0.0.1 as its base URL.")
	}
	return browserRefused("Without a known client key, the proxy answers only to an IP address, a name without a dot, a subdomain of PORTAL_DOMAIN, or a name that its operator lists in ALLOWED_HOSTS. " +
		"Send a known client key, use one of these in the base URL, or have the host name added to ALLOWED_HOSTS.")
}

// fromPage reports whether the header has what only browsers add to a page's
// requests (https://www.w3.org/TR/fetch-metadata/). Node's fetch, which
// HubSpot's newer SDK for TypeScript uses, always adds Sec-Fetch-Mode: cors,
// and nothing else of it.
func fromPage(header http.Header) bool {
	if _, has := header["Origin"]; has {
		return true
	}
	for name, values := range header {
		if !strings.HasPrefix(name, "Sec-Fetch-") {
			continue
		}
		if name != "Sec-Fetch-Mode" || len(values) != 1 || values[0] != "cors" {
			return true
		}
	}
	return false
}
