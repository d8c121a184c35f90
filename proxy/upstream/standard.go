package upstream

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"hubspot-auth-proxy/tokens/secret"
)

// standard sends requests by http.Transport.
type standard struct {
	transport *http.Transport
	timeout   time.Duration
	secure    bool // the URL is https

	http1Once    sync.Once
	withoutHTTP2 func() // called when the server answers with HTTP/1; nil means no callback
}

const errProxyURL = secret.Fault("HTTPS_PROXY is not a URL, such as http://127.0.0.1:3128")

func newStandard(config Config) *standard {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(config.HTTP2)
	s := &standard{timeout: config.Timeout, secure: config.URL.Scheme == "https", transport: &http.Transport{
		Proxy: func(r *http.Request) (*url.URL, error) {
			via, err := config.Proxy(r)
			if err != nil {
				err = errProxyURL // err quotes the URL, which may contain a password
			}
			return via, err
		},
		OnProxyConnectResponse: func(_ context.Context, _ *url.URL, _ *http.Request, response *http.Response) error {
			if response.StatusCode != http.StatusOK {
				return secret.Fault("the HTTPS_PROXY answered CONNECT with status " + strconv.Itoa(response.StatusCode))
			}
			return nil
		},
		DialContext:         dialObserved,
		TLSClientConfig:     config.TLS,
		TLSHandshakeTimeout: connectTimeout,
		Protocols:           protocols,
		// Pings detect a dead HTTP/2 connection in 20 seconds. TCP needs about 15
		// minutes.
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 5 * time.Second},
		MaxIdleConnsPerHost:    maxIdle,
		IdleConnTimeout:        idleTimeout,
		ExpectContinueTimeout:  continueTimeout,
		MaxResponseHeaderBytes: maxHeader,
		// Otherwise http.Transport would decode answers for which the client asked
		// for an encoding.
		DisableCompression: true,
	}}
	if config.HTTP2 && s.secure {
		s.withoutHTTP2 = config.WithoutHTTP2
	}
	return s
}

func (s *standard) roundTrip(r *http.Request) (*http.Response, error) {
	var used net.Conn
	if s.secure {
		r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
			GotConn: func(got httptrace.GotConnInfo) { used = got.Conn },
		}))
	}
	response, cancel, err := watched(s.transport, r, s.timeout)
	if err != nil {
		return nil, err
	}
	if response.ProtoMajor < 2 && s.withoutHTTP2 != nil {
		s.http1Once.Do(s.withoutHTTP2)
	}
	if response.Body != http.NoBody {
		body := &standardBody{ReadCloser: response.Body, cancel: cancel}
		if response.ProtoMajor < 2 && response.ContentLength < 0 && len(response.TransferEncoding) == 0 {
			body.endsWith = observed(used)
		}
		response.Body = body
	} else {
		cancel()
	}
	return response, nil
}

// An observedConn records whether the peer has closed the connection.
type observedConn struct {
	net.Conn
	ended atomic.Bool
}

func dialObserved(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: connectTimeout}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &observedConn{Conn: conn}, nil
}

// Read implements net.Conn.
func (c *observedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err == io.EOF {
		c.ended.Store(true)
	}
	return n, err
}

// observed returns the observedConn below TLS. It returns nil for nil.
func observed(conn net.Conn) *observedConn {
	for {
		over, is := conn.(interface{ NetConn() net.Conn })
		if !is {
			c, _ := conn.(*observedConn)
			return c
		}
		conn = over.NetConn()
	}
}

// standardBody is the body of an answer from http.Transport. It calls onWait before each
// read, because http.Transport does not report whether a read would block.
type standardBody struct {
	io.ReadCloser
	cancel   context.CancelFunc
	onWait   func()        // nil means no callback
	endsWith *observedConn // the end of this connection ends the body; nil means that the body has another end, or no TLS
}

// OnWait implements Body.
func (b *standardBody) OnWait(f func()) { b.onWait = f }

// Read implements io.Reader.
func (b *standardBody) Read(p []byte) (int, error) {
	if b.onWait != nil {
		b.onWait()
	}
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF && b.endsWith != nil && b.endsWith.ended.Load() {
		err = io.ErrUnexpectedEOF // the server has not sent close_notify; see conn.Read
	}
	return n, err
}

// Close implements io.Closer. It cancels the request first: otherwise closing an answer of
// HTTP/2 waits for the Read of the request's body that is in progress, so for the client.
func (b *standardBody) Close() error {
	b.cancel()
	return b.ReadCloser.Close()
}
