package proxy

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// refuseBrowser refuses what a web page sends: it must not reach a portal
// through the proxy on its reader's own machine. That covers DNS rebinding,
// where the page's own host name leads to loopback.
func (p *Proxy) refuseBrowser(r *http.Request) *refusal {
	switch {
	case fromPage(r.Header):
		return browserRefused("Calls from web pages are refused. Call the proxy from a server, without the headers Origin and Sec-Fetch-*.")
	case p.options.Loopback && !IsLoopbackHost(r.Host):
		return browserRefused("This proxy listens on loopback and answers to localhost and loopback addresses only. Use http://localhost or http://127.0.0.1 as its base URL.")
	}
	return nil
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

// IsLoopbackHost reports whether a Host header, with or without a port, names
// this machine itself. A server that listens on loopback gets others from a
// browser only that was deceived about where a name leads (DNS rebinding).
func IsLoopbackHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}
