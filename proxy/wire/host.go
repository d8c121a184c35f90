// Package wire has the rules about what a request consists of, as pure
// functions on bytes: host names, header fields, text that is safe to print.
// The functions do no I/O, keep no state, and are safe for concurrent use.
package wire

import (
	"net/netip"
	"slices"
	"strings"
)

// HostName returns the name or the address in a Host header field (RFC 9110
// section 7.2): in lower case, without the port, the brackets of an IPv6
// address, and a final dot. ok is false if the field has anything that neither
// a name nor an address has; browsers never send such a field.
func HostName(host string) (name string, ok bool) {
	name, port, _ := strings.Cut(host, ":")
	if strings.HasPrefix(host, "[") {
		var found bool
		name, port, found = strings.Cut(host[1:], "]")
		if !found || port != "" && port[0] != ':' {
			return "", false
		}
		port = strings.TrimPrefix(port, ":")
		if ip, err := netip.ParseAddr(name); err != nil || !ip.Is6() {
			return "", false
		}
	} else if name = strings.TrimSuffix(name, "."); !IsHostName(name) {
		return "", false
	}
	return strings.ToLower(name), strings.Trim(port, "0123456789") == ""
}

// IsHostName reports whether name consists of labels of ASCII letters, digits,
// hyphens and underscores, with single dots between them. IPv4 addresses are host
// names too.
func IsHostName(name string) bool {
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || strings.ContainsFunc(label, endsLabel) {
			return false
		}
	}
	return true
}

func endsLabel(c rune) bool {
	return !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_')
}

// IsLoopback reports whether a host, without a port, is localhost or a loopback
// address.
func IsLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && ip.Unmap().IsLoopback()
}

// IsLoopbackHost reports whether a Host header field names this machine: as
// localhost, as a name below localhost, or by a loopback address. Nobody can
// register a name below localhost (RFC 6761 section 6.3). A server that listens
// on loopback gets any other name only from a browser that was deceived about
// where the name leads (DNS rebinding), or from another proxy on this machine.
func IsLoopbackHost(host string) bool {
	name, ok := HostName(host)
	return ok && (IsLoopback(name) || IsBelow(name, "localhost"))
}

// IsBelow reports whether name, as [HostName] returns it, is a subdomain of the
// domain. An empty domain has no subdomains.
func IsBelow(name, domain string) bool {
	above, found := strings.CutSuffix(name, "."+domain)
	return found && domain != "" && above != ""
}

// Hosts are the names by which calls without a client key may reach a listener.
// The owner of a web page can resolve a name of the page's domain to the listener's
// address (DNS rebinding). The browser then treats the proxy as the page's own
// server, and sends neither Origin nor Sec-Fetch-* header fields. The Host header
// field still has the page's name, so Hosts refuses the call. The zero value accepts
// loopback names, IP addresses and names without a dot.
type Hosts struct {
	// Loopback means that the listener's address is a loopback address. Then
	// only loopback addresses, localhost and names below it are accepted.
	Loopback bool

	// Domain is a domain whose subdomains are accepted, in lower case. Empty
	// means none.
	Domain string

	// Allowed are further names, in lower case.
	Allowed []string
}

// Below returns the part of the Host header field's name that is before the domain,
// in lower case: 62515 of 62515.example.com. Below returns "" for all other names,
// and for the domain itself. A malformed field that contains the domain, such as
// 62515..example.com, is returned whole, so that the request is refused as one with
// an invalid portal and is not sent to the default portal.
func (h Hosts) Below(host string) string {
	if h.Domain == "" {
		return ""
	}
	name, ok := HostName(host)
	switch {
	case ok && IsBelow(name, h.Domain):
		return strings.TrimSuffix(name, "."+h.Domain)
	case !ok && strings.Contains(strings.ToLower(host), "."+h.Domain):
		return host
	}
	return ""
}

// Accept reports whether the Host header field has an accepted name. Names without a
// dot are accepted because no web page has such a name. With a final dot, such a name
// is a top-level domain and is refused.
func (h Hosts) Accept(host string) bool {
	if h.Loopback || IsLoopbackHost(host) {
		return IsLoopbackHost(host)
	}
	name, ok := HostName(host)
	if !ok {
		return false
	}
	if _, err := netip.ParseAddr(name); err == nil || !strings.Contains(host, ".") || IsBelow(name, h.Domain) {
		return true
	}
	return slices.Contains(h.Allowed, name)
}
