package proxy

import (
	"io"
	"maps"
	"net/http"
	"strings"

	"hubspot-auth-proxy/proxy/wire"
)

// recordTrailerNames records the forwarded names in the client's Trailer header. Call it before the body is
// read, because net/http's server then adds to the same map.
func (c *call) recordTrailerNames() {
	for name := range c.request.Trailer {
		if c.forwardsTrailer(name, nil) {
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
	return &trailedBody{ReadCloser: body, call: c, trailer: trailer}
}

// forwardsTrailer reports whether a trailer of the client's is forwarded.
func (c *call) forwardsTrailer(name string, values []string) bool {
	return wire.ForwardableTrailer(name) && !wire.IsListed(c.request.Header["Connection"], name) && !wire.HasKey(name, values, c.clientKey())
}

type trailedBody struct {
	io.ReadCloser
	call    *call
	trailer http.Header
}

// Read implements io.Reader.
func (b *trailedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		for name, values := range b.call.request.Trailer {
			if b.call.forwardsTrailer(name, values) {
				b.trailer[name] = values
			}
		}
	}
	return n, err
}

// cleanTrailers removes credentials and hop-by-hop fields from the trailers of HubSpot's
// answer. header has them under their names with the prefix.
func (c *call) cleanTrailers(header http.Header, prefix string) {
	maps.DeleteFunc(header, func(name string, _ []string) bool {
		trailer, is := strings.CutPrefix(name, prefix)
		return is && (wire.HopByHop(trailer) || wire.IsListed(c.connection, trailer))
	})
	c.conceal(header)
}
