package upstream

import (
	"cmp"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/url"
	"time"
)

// direct is the package's own HTTP/1.1, for direct connections. It has no
// goroutines of its own, between which a request would be handed to and fro,
// except one that sends a body.
type direct struct {
	address string      // of the server, host and port
	tls     *tls.Config // nil: http
	timeout time.Duration
	dialer  net.Dialer
	connect func(ctx context.Context) (*conn, error)
	pool    pool
	buffers buffers
}

func newDirect(config Config) *direct {
	d := &direct{
		address: hostPort(config.URL),
		timeout: config.Timeout,
		dialer:  net.Dialer{Timeout: connectTimeout},
	}
	if config.URL.Scheme == "https" {
		d.tls = config.TLS
		d.tls.ServerName = cmp.Or(d.tls.ServerName, config.URL.Hostname())
		d.tls.NextProtos = []string{"http/1.1"}
	}
	d.connect = d.dial
	return d
}

// hostPort returns the URL's address, with the port that its scheme implies.
func hostPort(u *url.URL) string {
	port := map[string]string{"http": "80", "https": "443"}[u.Scheme]
	return net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), port))
}

// dial returns a new connection.
func (d *direct) dial(ctx context.Context) (*conn, error) {
	tcp, err := d.dialer.DialContext(ctx, "tcp", d.address)
	if err != nil {
		return nil, err
	}
	raw := newRawConn(tcp, d.tls != nil)
	if d.tls == nil {
		return newConn(raw, raw), nil
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	secure := tls.Client(raw, d.tls)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, err
	}
	return newConn(raw, secure), nil
}

// roundTrip sends a request, and returns the answer. A connection that the server
// was just closing as it was used again does not fail a request that can be sent
// on another one: because nothing of it has left, or because it changes nothing.
func (d *direct) roundTrip(r *http.Request) (*http.Response, error) {
	if c := d.pool.take(); c != nil {
		response, err := d.exchange(c, r)
		if err == nil || !c.mayRepeat(r) {
			return response, err
		}
		closeBody(r) // what is just being read is kept for the next one then
		again, gone := renewed(r)
		if gone != nil {
			return nil, err
		}
		r = again
	}
	c, err := d.connect(r.Context())
	if err != nil {
		closeBody(r)
		return nil, err
	}
	return d.exchange(c, r)
}

func closeBody(r *http.Request) {
	if r.Body != nil {
		_ = r.Body.Close()
	}
}

// renewed returns the request with its body from the beginning, for another
// connection. The body as it was may still be read for the first one.
func renewed(r *http.Request) (again *http.Request, err error) {
	again = r.WithContext(r.Context())
	if r.Body != nil {
		if r.GetBody == nil {
			return nil, http.ErrBodyReadAfterClose
		}
		again.Body, err = r.GetBody()
	}
	return again, err
}

// mayRepeat reports whether a request that has failed on the connection may be
// sent once more.
func (c *conn) mayRepeat(r *http.Request) bool {
	if r.Context().Err() != nil || c.heard || c.timedOut {
		return false
	}
	if !c.raw.hasWritten() {
		return true
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return r.Body == nil
	}
	return false
}
