package proxy

import (
	"context"
	"net/http"
	"net/http/httputil"
	"net/url"
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
	c.target.Strip()
	r.Out.URL = c.target.URL(p.options.Upstream)
	r.Out.Host = "" // the upstream's
	c.announce()
}
