package proxy

import (
	"io"
	"net/http"
	"strings"
)

// announce notes which trailers the client has announced, before its body is
// read: then the server adds to that map.
func (c *call) announce() {
	for name := range c.request.Trailer {
		if forwardable(name) {
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
	return &trailedBody{ReadCloser: body, client: c.request, trailer: trailer}
}

type trailedBody struct {
	io.ReadCloser
	client  *http.Request
	trailer http.Header
}

// Read implements io.Reader.
func (b *trailedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		for name, values := range b.client.Trailer {
			if forwardable(name) {
				b.trailer[name] = values
			}
		}
	}
	return n, err
}

// forwardable reports whether HubSpot may get the client's trailer of that
// name: what is stripped from headers is from trailers, too. Unlike those of
// headers, names of trailers may be none that net/http's server lets through.
func forwardable(name string) bool {
	if strings.ContainsFunc(name, endsToken) {
		return false
	}
	switch name {
	case "Authorization", "Proxy-Authorization", portalHeader, debugHeader:
		return false
	// These must not be in a trailer (RFC 9110 section 6.5.1).
	case "Host", "Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Upgrade",
		"Transfer-Encoding", "Content-Length", "Content-Encoding", "Content-Type", "Content-Range", "Expect":
		return false
	}
	return true
}
