package proxy

import (
	"io"
	"net/http"

	"hubspot-auth-proxy/proxy/wire"
	"hubspot-auth-proxy/tokens/secret"
)

// recordTrailerNames records the names in the client's Trailer header. Call it before the body is
// read, because net/http's server then adds to the same map.
func (c *call) recordTrailerNames() {
	for name := range c.request.Trailer {
		if wire.ForwardableTrailer(name) && !wire.HasKey(name, nil, c.clientKey()) {
			c.announced = append(c.announced, name)
		}
	}
}

// trailer returns the trailer map for one attempt, with the announced names. It returns nil
// if the body cannot have trailers. Each attempt has its own map, because the first
// attempt's body may end while the second attempt writes its header.
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

// fill returns the body as a reader that copies the client's trailers into the map at the
// body's end. By then the server knows all trailers, including those not announced. A nil
// map means no trailers.
func (c *call) fill(trailer http.Header, body io.ReadCloser) io.ReadCloser {
	if trailer == nil {
		return body
	}
	return &trailedBody{ReadCloser: body, client: c.request, key: c.clientKey(), trailer: trailer}
}

type trailedBody struct {
	io.ReadCloser
	client  *http.Request
	key     secret.Text // the client's key, which must not be forwarded
	trailer http.Header
}

// Read implements io.Reader.
func (b *trailedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		for name, values := range b.client.Trailer {
			if wire.ForwardableTrailer(name) && !wire.HasKey(name, values, b.key) {
				b.trailer[name] = values
			}
		}
	}
	return n, err
}
