package proxy

import (
	"context"
	"iter"
	"net/http"
	"net/http/httputil"
	"net/textproto"
	"net/url"
	"strings"
)

// bare returns the request as ReverseProxy gets it: without what it would copy
// and edit only to have it thrown away. What HubSpot gets is made of what the
// client sent.
func (c *call) bare() *http.Request {
	r := c.request.WithContext(context.WithValue(c.request.Context(), callKey{}, c))
	r.URL, r.Header, r.Trailer, r.Body = new(url.URL), nil, nil, nil
	return r
}

// rewrite gives the request its target: the bytes that the client sent, without
// credentials. Each attempt gets its own header, with the portal's credential,
// where an error can be returned.
func (p *Proxy) rewrite(r *httputil.ProxyRequest) {
	c := callOf(r.In.Context())
	c.target.strip()
	r.Out.URL = c.target.url(p.options.Upstream)
	r.Out.Host = "" // the upstream's
	c.announce()
}

// header returns what HubSpot gets of the client's header: all but credentials,
// what is ours, and what concerns one connection only.
// Nothing is added. The values are the client's own, and must not be changed.
func (c *call) header() http.Header {
	sent := c.request.Header
	header := make(http.Header, len(sent)+1) // for a credential
	for name, values := range sent {
		switch name {
		case "Authorization", portalHeader, debugHeader:
		case "Te":
			for coding := range listed(values) {
				if strings.EqualFold(coding, "trailers") {
					header[name] = []string{coding}
				}
			}
		case "Idempotency-Key", "X-Idempotency-Key":
			// By these names, http.Transport takes a POST for one that may be
			// sent again on another connection, although HubSpot may have
			// received it. Their case means nothing to HubSpot.
			header[strings.ToLower(name)] = values
		default:
			if !hopByHop(name) {
				header[name] = values
			}
		}
	}
	for name := range listed(sent["Connection"]) {
		// Connection always lists TE, whose trailers are passed on hop by hop
		// (RFC 9110 section 10.1.4).
		if name = http.CanonicalHeaderKey(name); name != "Te" {
			delete(header, name)
		}
	}
	if _, has := header["User-Agent"]; !has {
		header["User-Agent"] = nil // else http.Transport makes one up
	}
	return header
}

// hopByHop reports whether a header of that canonical name concerns one
// connection only, whether or not Connection lists it (RFC 9110 section 7.6.1).
// Upgrade is among them: no other protocol is spoken here, and Java's client
// offers h2c on every request.
func hopByHop(name string) bool {
	switch name {
	case "Connection", "Proxy-Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
		"Proxy-Authenticate", "Proxy-Authorization":
		return true
	}
	return false
}

// listed yields what a header lists, with commas between.
func listed(values []string) iter.Seq[string] {
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
