// Package upstream is the way to an API: a [Transport] is the http.RoundTripper of
// a proxy that sends all its requests to one server. It knows nothing of portals,
// clients or credentials.
//
// There are two ways behind it. Direct connections on Unix are served by an
// HTTP/1.1 of the package's own, which writes and reads in the goroutine of the
// request, and so takes less CPU than http.Transport. HTTP/2, proxies
// (HTTPS_PROXY) and other systems are served by http.Transport. What follows is
// promised of both, unless it says direct, in the order of RFC 9112.
//
// Messages (section 2). A request is written as it is: with no header field added,
// except Host and what frames the body. A value that has a line's end is written
// as one line. The header of an answer, with all informational answers before it,
// has at most 1 MiB.
//
// Request line (section 3). The target is r.URL.RequestURI(), byte for byte; Host is
// r.Host, or else r.URL.Host. Connections always go to the server of the Config.
//
// Status line (section 4). Informational answers (1xx) go to
// httptrace.ClientTrace.Got1xxResponse, each once, as they come. 101 is returned
// as an answer, after which the connection is closed.
//
// Fields (section 5). Those of an answer are returned as net/http's parser reads
// them; no answer is decoded.
//
// Body (section 6). A request's body is sent with Content-Length if r.ContentLength is
// not negative, and else chunked, with r.Trailer as it is when the body ends. A body
// that is not as long as its Content-Length is never completed by anything. After
// Expect: 100-continue the body is sent when the server asks for it, or after a
// second; direct: after another answer it is not sent. An answer may come before the
// body was sent, and both go on then. Each answer's body is a [Body].
//
// Incomplete messages (section 8). The bytes of an answer that came before it broke
// off can be read, and are followed by an error other than io.EOF.
//
// Connections (section 9). A connection is used again after an answer that was read
// to its end, if its request was sent whole. It is kept for a minute. Direct: what
// has been read of it is checked when it is put back, and what has arrived when
// it is taken: one that has been closed, or on which the server has sent anything
// after its answer, is not used. What arrives between that check and the next
// answer cannot be told from the answer, by this or any other client of
// HTTP/1.1. A connection that has rested for 2 ms is preferred, so that this is rare.
// A connection that the server closes is closed within 10 s.
//
// A request whose connection breaks is sent once more, on a new connection, if
// the first one was used before, and nothing of the answer had come, and either
// nothing of the request had been written, or it is a GET, HEAD or OPTIONS without
// a body. It needs r.GetBody for that if it has a body. (http.Transport repeats
// more than once.)
//
// TLS (section 9.7 and 9.8). The end of a connection is announced by close_notify
// unless a request is under way on it. Sessions are resumed.
//
// Time. Connecting may take 10 s, and the TLS handshake another 10 s. The server may
// take nothing of a request's body for the Config's Timeout, and that long
// until the answer's header from the last byte of the request: [ErrTimeout]. There
// is no limit for what a client takes to send its body, nor for the body of an
// answer. A request ends when its context does.
package upstream

import (
	"crypto/tls"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	"hubspot-auth-proxy/tokens/secret"
)

// ErrTimeout is that the server has taken nothing of a request, or has sent no
// header of an answer, for the Config's Timeout.
const ErrTimeout = secret.Fault("no header of an answer came in time")

// A Body is the body of an answer. It may be closed while it is read.
type Body interface {
	io.ReadCloser

	// OnWait has the function called, in the goroutine that reads, before a
	// read that may have to wait for the server: whatever was read by then can be
	// passed on. Read does not call it for bytes that have arrived already,
	// as far as that can be known.
	OnWait(func())
}

const (
	// connectTimeout is how long it may take to connect, and again to agree
	// about TLS.
	connectTimeout = 10 * time.Second

	// continueTimeout is how long a body is held back that the server has not
	// asked for yet, after Expect: 100-continue (RFC 9110 section 10.1.1).
	continueTimeout = time.Second

	// idleTimeout is how long a connection is kept while nobody uses it: shorter
	// than the time of HubSpot's edge, so that few requests meet a connection
	// that is being closed.
	idleTimeout = 60 * time.Second

	// maxIdle is how many idle connections are kept. With the two of net/http,
	// fifty clients open a new connection for nearly every request.
	maxIdle = 512

	// maxHeader is how long the header of an answer may be, and what comes
	// before it (1xx), in bytes.
	maxHeader = 1 << 20

	// maxSessions is how many TLS sessions are kept. All are of one server.
	maxSessions = 8
)

// Config is what a [Transport] works with.
type Config struct {
	// URL is the server: scheme, host and port. It is required.
	URL *url.URL

	// TLS is used for https. nil means the system's root certificates.
	TLS *tls.Config

	// Timeout is described in the package's comment. Zero means no limit.
	Timeout time.Duration

	// HTTP2 offers HTTP/2 to a server with https.
	HTTP2 bool

	// WithoutHTTP2 is called, once, when the server has not taken HTTP/2 that
	// was offered. nil means that nobody needs to know.
	WithoutHTTP2 func()

	// Proxy returns the URL of the proxy to connect through, as the field of
	// http.Transport does. nil means http.ProxyFromEnvironment. New asks it once
	// whether connections are direct.
	Proxy func(*http.Request) (*url.URL, error)
}

// A Transport sends requests to one server. It is safe for concurrent use.
type Transport struct {
	direct   *direct   // nil: standard is used
	standard *standard // nil: direct is used
}

// New returns a transport. Close its idle connections in the end.
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

// RoundTrip implements http.RoundTripper. The answer's body is a [Body], or
// http.NoBody.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if t.direct != nil {
		return t.direct.roundTrip(r)
	}
	return t.standard.roundTrip(r)
}

// CloseIdleConnections closes the connections that are idle. Connections of requests
// that are under way are closed when these end.
func (t *Transport) CloseIdleConnections() {
	if t.direct != nil {
		t.direct.pool.close()
	} else {
		t.standard.transport.CloseIdleConnections()
	}
}

// buffers are used to copy bodies.
type buffers struct{ pool sync.Pool }

const bufferSize = 32 << 10

func (b *buffers) get() []byte {
	if buffer, ok := b.pool.Get().(*[bufferSize]byte); ok {
		return buffer[:]
	}
	return make([]byte, bufferSize)
}

// put takes a buffer back that get returned.
func (b *buffers) put(buffer []byte) { b.pool.Put((*[bufferSize]byte)(buffer)) }
