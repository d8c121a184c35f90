package wire

import (
	"iter"
	"maps"
	"net/http"
	"net/textproto"
	"strings"

	"hubspot-auth-proxy/tokens/secret"
)

// The header fields that a client sends to the proxy itself, in canonical form. The
// proxy does not forward them.
const (
	PortalHeader = "X-Hubspot-Portal-Id"
	DebugHeader  = "X-Hubspot-Auth-Proxy-Debug"
)

// ForwardHeader makes out the header that HubSpot gets. sent is the client's header,
// and key the client key that it presented. out is the copy of sent that
// httputil.ReverseProxy passes to its Rewrite hook. ReverseProxy has removed the
// hop-by-hop fields from it, except TE: trailers, and the fields by which earlier
// proxies describe themselves. ForwardHeader puts the fields of earlier proxies back, and
// removes credentials, fields with a client key, and fields for the proxy itself. It adds
// nothing that the client did not send.
func ForwardHeader(out, sent http.Header, key secret.Text) {
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		if values, has := sent[name]; has && !IsListed(sent["Connection"], name) {
			out[name] = values
		}
	}
	delete(out, "Authorization")
	delete(out, PortalHeader)
	delete(out, DebugHeader)
	for name, values := range out {
		if HasKey(name, values, key) {
			delete(out, name) // SDKs also put a credential into fields that HubSpot does not read
		}
	}
	for _, name := range []string{"Idempotency-Key", "X-Idempotency-Key"} {
		// If a POST has one of these fields, http.Transport may send it again on
		// another connection, although HubSpot may have received it. Transport
		// does not recognize the names in lower case; HubSpot does.
		if values, has := out[name]; has {
			delete(out, name)
			out[strings.ToLower(name)] = values
		}
	}
	if _, has := out["User-Agent"]; !has {
		out["User-Agent"] = nil // otherwise http.Transport adds its own
	}
}

// IsListed reports whether name is an item of a comma-separated header field, whatever its case.
func IsListed(values []string, name string) bool {
	for listed := range Listed(values) {
		if strings.EqualFold(listed, name) {
			return true
		}
	}
	return false
}

// HasKey reports whether a field's name or one of its values contains the client key,
// or something that has the form of a client key. The case of a name does not count,
// because net/http changes it. An empty key is contained in no field.
func HasKey(name string, values []string, key secret.Text) bool {
	if len(name) >= minNamedKey && nameHasKey(strings.ToLower(name), strings.ToLower(key.Reveal())) {
		return true
	}
	for _, value := range values {
		if CarriesClientKey(value) || !key.IsZero() && strings.Contains(value, key.Reveal()) {
			return true
		}
	}
	return false
}

// minNamedKey is the length of the shortest client key that a field's name is searched
// for. A shorter text may be part of an ordinary name, such as Content-Type.
const minNamedKey = 20

func nameHasKey(name, key string) bool {
	return CarriesClientKey(name) || len(key) >= minNamedKey && Carries(name, key)
}

// First returns the first value of a field, or "" if there is none. The name must be in canonical
// form: unlike http.Header.Get, First does not convert it.
func First(header http.Header, name string) string {
	if values := header[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}

// RemoveHopByHop removes the fields that concern one connection only: those that the
// Connection field names, and those of [HopByHop] (RFC 9110 section 7.6.1). net/http drops
// the Connection field of an answer that contains close, with the names beside it.
func RemoveHopByHop(header http.Header) {
	connection := header["Connection"]
	maps.DeleteFunc(header, func(name string, _ []string) bool { return HopByHop(name) || IsListed(connection, name) })
}

// HopByHop reports whether the header field with this canonical name concerns one
// connection only, even if the Connection field does not list it (RFC 9110 section
// 7.6.1). Upgrade is such a field: the proxy does not switch protocols, and Java's
// client offers h2c on every request.
func HopByHop(name string) bool {
	switch name {
	case "Connection", "Proxy-Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
		"Proxy-Authenticate", "Proxy-Authorization":
		return true
	}
	return false
}

// ForwardableTrailer reports whether the proxy forwards a client's trailer field with
// this canonical name. Fields that are stripped from headers are stripped from
// trailers too. A name must be a token: net/http's server checks the names of header
// fields, but not those of trailer fields.
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

// Listed yields the items of a comma-separated header field, without surrounding
// white space. An empty item is yielded as "".
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

// IsToken reports whether name has only the characters that RFC 9110 section 5.6.2
// allows in a method or in the name of a header field. An empty name is a token.
func IsToken(name string) bool { return !strings.ContainsFunc(name, endsToken) }

func endsToken(c rune) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return false
	}
	return !strings.ContainsRune("!#$%&'*+-.^_`|~", c)
}

// HasPlainLength reports whether header has either no Content-Length or one that is a
// single decimal number (RFC 9110 section 8.6).
func HasPlainLength(header http.Header) bool {
	values, has := header["Content-Length"]
	return !has || len(values) == 1 && values[0] != "" && strings.Trim(values[0], "0123456789") == ""
}
