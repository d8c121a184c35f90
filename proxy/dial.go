package proxy

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/base64"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"golang.org/x/net/proxy"

	"hubspot-auth-proxy/tokens/secret"
)

// dialTime is how long it may take to connect, and again to agree about TLS.
const dialTime = 10 * time.Second

const errNotHTTP2 = secret.Fault("HubSpot does not take HTTP/2")

// dialer connects to HubSpot, or to the HTTPS_PROXY before it.
type dialer struct {
	upstream *url.URL
	address  string // of the upstream, host and port
	tls      *tls.Config
	tls2     *tls.Config // that offers HTTP/2
	net      net.Dialer
	via      func(*http.Request) (*url.URL, error) // which proxy to use, if any
}

func newDialer(options Options) *dialer {
	d := &dialer{
		upstream: options.Upstream,
		address:  hostPort(options.Upstream),
		tls:      options.UpstreamTLS.Clone(),
		net:      net.Dialer{Timeout: dialTime},
		via:      http.ProxyFromEnvironment, // as everywhere in Go
	}
	if d.tls == nil {
		d.tls = new(tls.Config)
	}
	d.tls.ServerName = cmp.Or(d.tls.ServerName, d.upstream.Hostname())
	d.tls.NextProtos = []string{"http/1.1"}
	d.tls2 = d.tls.Clone()
	d.tls2.NextProtos = []string{"h2", "http/1.1"}
	return d
}

// dial returns a new connection for HTTP/1.1.
func (d *dialer) dial(ctx context.Context) (*conn, error) {
	direct, err := d.connect(ctx)
	if err != nil {
		return nil, err
	}
	raw := newRawConn(direct, d.upstream.Scheme == "https")
	if !raw.secure {
		return newConn(raw, raw), nil
	}
	secure, err := secured(ctx, raw, d.tls)
	if err != nil {
		return nil, err
	}
	return newConn(raw, secure), nil
}

// http2 returns a new connection for HTTP/2, or errNotHTTP2.
func (d *dialer) http2(ctx context.Context) (net.Conn, error) {
	direct, err := d.connect(ctx)
	if err != nil {
		return nil, err
	}
	secure, err := secured(ctx, direct, d.tls2)
	if err != nil {
		return nil, err
	}
	if secure.ConnectionState().NegotiatedProtocol != "h2" {
		_ = secure.Close()
		return nil, errNotHTTP2
	}
	return secure, nil
}

// secured makes TLS of a connection, or closes it.
func secured(ctx context.Context, conn net.Conn, config *tls.Config) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	secure := tls.Client(conn, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return secure, nil
}

// connect returns a connection to HubSpot, before TLS.
func (d *dialer) connect(ctx context.Context) (net.Conn, error) {
	via, err := d.via(&http.Request{URL: d.upstream})
	switch {
	case err != nil:
		return nil, secret.Fault("HTTPS_PROXY is not a URL, such as http://127.0.0.1:3128")
	case via == nil:
		return d.net.DialContext(ctx, "tcp", d.address)
	case via.Scheme == "socks5" || via.Scheme == "socks5h":
		return d.socks(ctx, via)
	}
	conn, err := d.net.DialContext(ctx, "tcp", hostPort(via))
	if err == nil && via.Scheme == "https" {
		conn, err = secured(ctx, conn, &tls.Config{ServerName: via.Hostname()})
	}
	if err != nil {
		return nil, err
	}
	if err := d.tunnel(ctx, conn, via); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

// socks returns a connection through a SOCKS5 proxy: the system's own, for what
// the library has around it does not let be seen what has come already.
func (d *dialer) socks(ctx context.Context, via *url.URL) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	to := &remembering{Dialer: d.net}
	socks, err := proxy.FromURL(via, to)
	if err != nil {
		return nil, err
	}
	if _, err := socks.(proxy.ContextDialer).DialContext(ctx, "tcp", d.address); err != nil {
		return nil, err
	}
	return to.conn, nil
}

// remembering is a dialer that remembers its last connection.
type remembering struct {
	net.Dialer
	conn net.Conn
}

// DialContext implements proxy.ContextDialer.
func (r *remembering) DialContext(ctx context.Context, network, address string) (conn net.Conn, err error) {
	r.conn, err = r.Dialer.DialContext(ctx, network, address)
	return r.conn, err
}

// tunnel asks an HTTP proxy to connect the connection on to HubSpot (RFC 9110
// section 9.3.6).
func (d *dialer) tunnel(ctx context.Context, conn net.Conn, via *url.URL) error {
	request := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: d.address}, Host: d.address, Header: make(http.Header)}
	request.Header["User-Agent"] = nil
	if user := via.User; user != nil {
		password, _ := user.Password()
		request.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(user.Username()+":"+password)))
	}
	_ = conn.SetDeadline(time.Now().Add(dialTime))
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	if err := request.Write(conn); err != nil {
		return err
	}
	// HubSpot says nothing before it is spoken to: no byte of its is read ahead.
	response, err := http.ReadResponse(bufio.NewReaderSize(conn, 1<<10), request)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return secret.Fault("the HTTPS_PROXY answered CONNECT with status " + strconv.Itoa(response.StatusCode))
	}
	return conn.SetDeadline(time.Time{})
}

// hostPort returns the URL's address, with the port that its scheme implies.
func hostPort(u *url.URL) string {
	port := map[string]string{"http": "80", "https": "443"}[u.Scheme]
	return net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), port))
}
