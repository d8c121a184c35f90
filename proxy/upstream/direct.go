package upstream

import (
	"cmp"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// direct is the package's own HTTP/1.1 client, for direct connections. A request is
// written and its answer is read in the goroutine of RoundTrip; only a request's body is
// sent in another one. So there is no hand-over between goroutines, as in
// http.Transport.
type direct struct {
	address string      // host and port of the server
	tls     *tls.Config // nil means plain http
	timeout time.Duration
	dialer  net.Dialer
	connect func(ctx context.Context) (*conn, error)
	pool    pool
	buffers buffers
	writers sync.Pool // of *bufio.Writer
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

// hostPort returns the URL's host and port. If the URL has no port, hostPort uses
// the scheme's default port.
func hostPort(u *url.URL) string {
	port := map[string]string{"http": "80", "https": "443"}[u.Scheme]
	return net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), port))
}

// dial opens a new connection, including the TLS handshake.
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

// connectApart is connect in a goroutine of its own. A TLS handshake needs a deep stack,
// which the request's goroutine would keep while it waits for the answer.
func (d *direct) connectApart(ctx context.Context) (c *conn, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err = d.connect(ctx)
	}()
	<-done
	return c, err
}

// roundTrip sends a request, and returns the answer. The server may close an idle
// connection just as roundTrip uses it again. Then roundTrip repeats the request on a new
// connection, if mayRepeat allows that.
func (d *direct) roundTrip(r *http.Request) (*http.Response, error) {
	if c := d.pool.take(); c != nil {
		response, err := d.exchange(c, r)
		if err == nil || !c.mayRepeat(r) {
			return response, err
		}
		closeBody(r) // waits for a Read in progress, so that its bytes are kept for the repetition
		again, gone := withNewBody(r)
		if gone != nil {
			return nil, err
		}
		r = again
	}
	c, err := d.connectApart(r.Context())
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

// withNewBody returns a copy of the request whose body starts from the beginning. The
// old body must not be used again, because the first attempt may still read it.
func withNewBody(r *http.Request) (again *http.Request, err error) {
	again = r.WithContext(r.Context())
	if r.Body != nil {
		if r.GetBody == nil {
			return nil, http.ErrBodyReadAfterClose
		}
		again.Body, err = r.GetBody()
	}
	return again, err
}

// mayRepeat reports whether a request that failed on this connection may be sent once
// more: nothing of the answer came, and either nothing of the request was written, or
// the request changes nothing and has no body.
func (c *conn) mayRepeat(r *http.Request) bool {
	if r.Context().Err() != nil || c.answerBegan || c.timedOut {
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
