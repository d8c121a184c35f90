package wire

import (
	"iter"
	"net/http"
	"net/textproto"
	"strings"

	"hubspot-auth-proxy/tokens/secret"
)

// The header fields by which a client tells the proxy what it wants, in canonical
// form. HubSpot does not get them.
const (
	PortalHeader = "X-Hubspot-Portal-Id"
	DebugHeader  = "X-Hubspot-Auth-Proxy-Debug"
)

// ForwardHeader completes what HubSpot gets of a client's header: all except
// credentials, fields with a client key, what is meant for the proxy, and what
// concerns one connection only. out is what httputil.ReverseProxy has made of it
// for its Rewrite: it has removed what concerns one connection, except TE: trailers,
// and also what tells of proxies before this one, which is passed on here. Nothing is
// added.
func ForwardHeader(out, sent http.Header, key secret.Text) {
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		if values, has := sent[name]; has && !isListed(sent["Connection"], name) {
			out[name] = values
		}
	}
	delete(out, "Authorization")
	delete(out, PortalHeader)
	delete(out, DebugHeader)
	for name, values := range out {
		if HaveKey(values, key) {
			delete(out, name) // SDKs have more places for a credential than HubSpot reads
		}
	}
	for _, name := range []string{"Idempotency-Key", "X-Idempotency-Key"} {
		// By these names, http.Transport takes a POST for one that may be
		// sent again on another connection, although HubSpot may have
		// received it. Their case means nothing to HubSpot.
		if values, has := out[name]; has {
			delete(out, name)
			out[strings.ToLower(name)] = values
		}
	}
	if _, has := out["User-Agent"]; !has {
		out["User-Agent"] = nil // else http.Transport makes one up
	}
}

func isListed(values []string, name string) bool {
	for listed := range Listed(values) {
		if strings.EqualFold(listed, name) {
			return true
		}
	}
	return false
}

// HaveKey reports whether one of the values has the client key, or something that
// has the form of one.
func HaveKey(values []string, key secret.Text) bool {
	for _, value := range values {
		if CarriesClientKey(value) || !key.IsZero() && strings.Contains(value, key.Reveal()) {
			return true
		}
	}
	return false
}

// HopByHop reports whether a header field of that canonical name concerns one
// connection only, whether or not Connection lists it (RFC 9110 section 7.6.1).
// Upgrade is among them: no other protocol is spoken here, and Java's client
// offers h2c on every request.
func HopByHop(name string) bool {
	switch name {
	case "Connection", "Proxy-Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
		"Proxy-Authenticate", "Proxy-Authorization":
		return true
	}
	return false
}

// ForwardableTrailer reports whether HubSpot may get a client's trailer field of
// that canonical name: what is stripped from headers is from trailers, too. Unlike
// those of headers, names of trailers may be none that net/http's server lets
// through.
func ForwardableTrailer(name string) bool {
	if !IsToken(name) {
		return false
	}
	switch name {
	case "Authorization", "Proxy-Authorization", PortalHeader, DebugHeader:
		return false
	// These must not be in a trailer (RFC 9110 section 6.5.1).
	case "Host", "Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Upgrade",
		"Transfer-Encoding", "Content-Length", "Content-Encoding", "Content-Type", "Content-Range", "Expect":
		return false
	}
	return true
}

// Listed yields what a header field lists, with commas between.
func Listed(values []string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, value := range values {
			for item := range strings.SplitSeq(value, ",") {
				if !yield(textproto.TrimString(item)) {
					return
				}
			}
		}
	}
}

// IsToken reports whether a method, or the name of a header field, has only the
// characters that such a one may have (RFC 9110 section 5.6.2).
func IsToken(name string) bool { return !strings.ContainsFunc(name, endsToken) }

func endsToken(c rune) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return false
	}
	return !strings.ContainsRune("!#$%&'*+-.^_`|~", c)
}

// HasPlainLength reports whether the Content-Length, if there is one, is a single
// decimal number (RFC 9110 section 8.6).
func HasPlainLength(header http.Header) bool {
	values, has := header["Content-Length"]
	return !has || len(values) == 1 && values[0] != "" && strings.Trim(values[0], "0123456789") == ""
}
