package proxy

import (
	"io"
	"net/http"

	"hubspot-auth-proxy/proxy/wire"
	"hubspot-auth-proxy/tokens/secret"
)

// announce notes which trailers the client has announced, before its body is
// read: then the server adds to that map.
func (c *call) announce() {
	for name := range c.request.Trailer {
		if wire.ForwardableTrailer(name) {
			c.announced = append(c.announced, name)
		}
	}
}

// trailer returns a trailer for one attempt, with the names that the client
// has announced; nil if its body cannot have one. Attempts do not share one:
// the first one's body may end while the second one's header is written.
func (c *call) trailer() http.Header {
	if c.request.ProtoMajor == 1 && len(c.request.TransferEncoding) == 0 {
		return nil
	}
	trailer := make(http.Header)
	for _, name := range c.announced {
		trailer[name] = nil
	}
	return trailer
}

// fill returns body, which fills the trailer when it ends: by then the server
// has all of it, what was not announced too.
func (c *call) fill(trailer http.Header, body io.ReadCloser) io.ReadCloser {
	if trailer == nil {
		return body
	}
	return &trailedBody{ReadCloser: body, client: c.request, key: c.clientKey(), trailer: trailer}
}

type trailedBody struct {
	io.ReadCloser
	client  *http.Request
	key     secret.Text // of the client
	trailer http.Header
}

// Read implements io.Reader.
func (b *trailedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		for name, values := range b.client.Trailer {
			if wire.ForwardableTrailer(name) && !wire.HaveKey(values, b.key) {
				b.trailer[name] = values
			}
		}
	}
	return n, err
}
