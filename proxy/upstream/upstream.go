// Package upstream sends requests to one server: a [Transport] is the
// http.RoundTripper of a proxy. The package knows nothing of portals, clients or
// credentials.
//
// A Transport works in one of two ways. On Unix, for connections that need neither
// HTTP/2 nor a proxy (HTTPS_PROXY), the package has its own HTTP/1.1 client. That
// client writes and reads in the goroutine of the request, and so takes less CPU than
// http.Transport. In all other cases the package uses http.Transport. The following
// promises are in the order of RFC 9112, and hold for both clients. A sentence that begins with
// "Direct:" holds for the package's own client only.
//
// Messages (section 2). A request is sent with the header fields that it has. Only
// Host and the fields that frame the body are added. Line breaks in a field's value
// become spaces. The header of an answer, including all informational answers before
// it, is limited to 1 MiB.
//
// Request line (section 3). The target is r.URL.RequestURI(), byte for byte; Host is
// r.Host, or r.URL.Host if r.Host is empty. Connections always go to the server of the
// Config.
//
// Status line (section 4). Informational answers (1xx) go to
// httptrace.ClientTrace.Got1xxResponse, each once, as they arrive. 101 is returned as
// the final answer, and the connection is closed after it.
//
// Fields (section 5). net/http's parser reads the fields of an answer. Content-Encoding
// is not decoded.
//
// Body (section 6). A request's body is sent with Content-Length if r.ContentLength is
// not negative. Otherwise it is sent chunked, followed by r.Trailer as it is when the
// body ends. If a body is shorter or longer than its Content-Length, the request fails
// and the connection is closed. After Expect: 100-continue the body is sent when the
// server asks for it, or after a second. Direct: if the server gives its final answer
// instead, the body is not sent. An answer may begin before the body was sent; then
// both continue. Each answer's body is a [Body].
//
// Incomplete messages (section 8). The bytes of an answer that came before it broke
// off can be read, and are followed by an error other than io.EOF. Over TLS, an answer
// without a length ends with close_notify; a connection that ends without close_notify has
// broken it off.
//
// Connections (section 9). A connection is used again if its request was sent
// completely and the answer was read to its end. An idle connection is closed after a
// minute. Direct: a connection is not used again if the server has closed it, or has
// sent anything after its last answer. The package checks both when a connection becomes
// idle and again before its next use. Bytes that arrive after this check are taken for the
// answer to the next request; no HTTP/1.1 client can tell the difference. To make this
// rare, connections that have been idle for at least 2 ms are used first. Direct: when
// the server closes an idle connection, it is closed on this side within 10 s.
//
// A request whose connection breaks is sent once more, on a new connection, if all of
// these hold: the connection had served a request before; nothing of the answer had
// arrived; and either nothing of the request had been written, or the request is a GET,
// HEAD or OPTIONS without a body. A request with a body also needs r.GetBody.
// (http.Transport may repeat a request several times.)
//
// TLS (sections 9.7 and 9.8). An idle connection is closed with close_notify, and a
// connection with a request under way without. Sessions are resumed.
//
// Time. Connecting is limited to 10 s, and the TLS handshake to another 10 s. A request
// fails with [ErrTimeout] if the server reads nothing of its body for the Config's
// Timeout, or if no header of an answer arrives for that long after the request's last
// byte. The time that a client takes to send its body is not limited, nor is the time of
// an answer's body. A request ends when its context does.
package upstream

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"hubspot-auth-proxy/tokens/secret"
)

// ErrTimeout is returned if the server reads nothing of a request's body, or sends no
// header of an answer, for the Config's Timeout.
const ErrTimeout = secret.Fault("no header of an answer came in time")

// NotConnected reports whether err, an error of [Transport.RoundTrip], means that no connection to
// the server could be opened. Then the server has received no request that may change anything.
// NotConnected returns false if it does not know.
func NotConnected(err error) bool {
	if op, is := errors.AsType[*net.OpError](err); is {
		return op.Op == "dial" || op.Op == "proxyconnect"
	}
	_, untrusted := errors.AsType[*tls.CertificateVerificationError](err)
	return untrusted
}

// A Body is the body of an answer. Close may be called while Read runs in another
// goroutine.
type Body interface {
	io.ReadCloser

	// OnWait sets a function that Read calls before it may have to wait for the
	// server. The caller can then pass on what it has read so far. Direct: Read does
	// not call the function while bytes are buffered. Call OnWait before the first
	// Read.
	OnWait(func())
}

const (
	// connectTimeout limits connecting, and separately the TLS handshake.
	connectTimeout = 10 * time.Second

	// continueTimeout is how long a request with Expect: 100-continue waits for the
	// server to ask for the body (RFC 9110 section 10.1.1).
	continueTimeout = time.Second

	// idleTimeout is how long an idle connection is kept. It is shorter than the
	// timeout of HubSpot's edge, so that few requests use a connection that the
	// server is just closing.
	idleTimeout = 60 * time.Second

	// maxIdle is how many idle connections are kept. With net/http's default of 2,
	// fifty concurrent clients need a new connection for nearly every request.
	maxIdle = 512

	// maxHeader limits the header of an answer, together with the informational
	// answers before it, in bytes.
	maxHeader = 1 << 20

	// maxSessions is how many TLS sessions are kept, all of the same server.
	maxSessions = 8
)

// Config configures a [Transport].
type Config struct {
	// URL is the server: scheme, host and port. It is required.
	URL *url.URL

	// TLS is used for https. nil means the system's root certificates.
	TLS *tls.Config

	// Timeout limits how long the server may read nothing of a request's body, and
	// how long the answer's header may take after the request's last byte. Zero means
	// no limit.
	Timeout time.Duration

	// HTTP2 offers HTTP/2 to the server if URL is https.
	HTTP2 bool

	// WithoutHTTP2 is called once if HTTP/2 was offered and the server answers with
	// HTTP/1. nil means no callback.
	WithoutHTTP2 func()

	// Proxy returns the URL of the proxy to connect through, as the field of
	// http.Transport does. nil means http.ProxyFromEnvironment. New calls it once to
	// decide whether connections are direct.
	Proxy func(*http.Request) (*url.URL, error)
}

// A Transport sends requests to one server. It is safe for concurrent use.
type Transport struct {
	direct   *direct   // nil if standard is used
	standard *standard // nil if direct is used
}

// New returns a transport. Call CloseIdleConnections when it is no longer needed.
func New(config Config) *Transport {
	if config.Proxy == nil {
		config.Proxy = http.ProxyFromEnvironment
	}
	config.TLS = config.TLS.Clone()
	if config.TLS == nil {
		config.TLS = new(tls.Config)
	}
	if config.TLS.ClientSessionCache == nil {
		config.TLS.ClientSessionCache = tls.NewLRUClientSessionCache(maxSessions)
	}
	via, err := config.Proxy(&http.Request{URL: config.URL})
	if canPoll && !config.HTTP2 && via == nil && err == nil {
		return &Transport{direct: newDirect(config)}
	}
	return &Transport{standard: newStandard(config)}
}

// RoundTrip implements http.RoundTripper. The answer's body is a [Body] or
// http.NoBody.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if t.direct != nil {
		return t.direct.roundTrip(r)
	}
	return t.standard.roundTrip(r)
}

// CloseIdleConnections closes all idle connections. Direct: a connection with a request
// under way is closed when the request ends.
func (t *Transport) CloseIdleConnections() {
	if t.direct != nil {
		t.direct.pool.close()
	} else {
		t.standard.transport.CloseIdleConnections()
	}
}

// buffers is a pool of buffers for copying bodies. It is safe for concurrent use.
type buffers struct{ pool sync.Pool }

const bufferSize = 32 << 10

func (b *buffers) get() []byte {
	if buffer, ok := b.pool.Get().(*[bufferSize]byte); ok {
		return buffer[:]
	}
	return make([]byte, bufferSize)
}

// put returns a buffer of get to the pool.
func (b *buffers) put(buffer []byte) { b.pool.Put((*[bufferSize]byte)(buffer)) }
