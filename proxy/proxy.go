// Package proxy is the way of a request: refused or let in, sent to HubSpot
// with its portal's credential instead of the client's, sent once more if
// HubSpot has rejected that, and answered with what HubSpot answered.
package proxy

import (
	"context"
	"crypto/tls"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"hubspot-auth-proxy/proxy/connlimit"
	"hubspot-auth-proxy/proxy/intercept"
	"hubspot-auth-proxy/proxy/replay"
	"hubspot-auth-proxy/proxy/upstream"
	"hubspot-auth-proxy/proxy/wire"
	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/throttle"
)

// Credentials is where the portals' credentials come from; [tokens.Source] is
// one. It must be safe for concurrent use.
type Credentials interface {
	// Credential returns the portal's credential. Its errors are those of
	// [tokens.Source.Credential].
	Credential(ctx context.Context, portal string) (*tokens.Credential, error)

	// Renew returns another credential than the one that HubSpot rejected,
	// or an error if there is none. expired tells that HubSpot gave the
	// credential's expiry as the reason.
	Renew(ctx context.Context, rejected *tokens.Credential, expired bool) (*tokens.Credential, error)
}

// Options are what a [Proxy] works with.
type Options struct {
	Credentials Credentials

	// Upstream is where all requests go: scheme, host and port.
	Upstream *url.URL

	// UpstreamTLS is used for https. Nil: the system's root certificates.
	UpstreamTLS *tls.Config

	// UpstreamTimeout is how long HubSpot may take from a request's last byte
	// until the response's header. Zero: as long as it likes.
	UpstreamTimeout time.Duration

	// UpstreamHTTP2 offers HTTP/2 to HubSpot.
	UpstreamHTTP2 bool

	// RetryBodyLimit is how many bytes of a request's body are kept for a
	// second try; RetryMemory how many of all requests' bodies together.
	// Zero: none, so that only requests without a body are sent again.
	RetryBodyLimit, RetryMemory int64

	// MaxRequests is how many requests that were let in are under way at once, and
	// half of it how many of one client. Zero means no limit.
	MaxRequests int

	// DefaultPortal is the portal of calls that name none. Empty: they are
	// refused.
	DefaultPortal string

	// ServePortals are the only portals that are served. Empty: all.
	ServePortals []string

	// Clients are the callers that have a key. Nil: there are none.
	Clients Clients

	// AllowAnonymous lets callers in that have no client key, for all portals.
	AllowAnonymous bool

	// OAuthNeedsKey refuses calls of HubSpot's token endpoint that have no
	// client key. Otherwise they are let in, because SDKs send none there.
	OAuthNeedsKey bool

	// Loopback means that the listener's own address is a loopback address.
	// Calls without a client key that name another host then come from a
	// browser that was deceived, and those that another proxy has forwarded
	// come from anywhere.
	Loopback bool

	// PortalDomain is the domain, in lower case, whose subdomains name portals:
	// 62515.example.com. Empty means that the host name names none.
	PortalDomain string

	// AllowedHosts are further host names, in lower case, by which calls without
	// a client key may reach the proxy if Loopback is false.
	AllowedHosts []string

	// Intercept has the certificates for tunnels to HubSpot, which CONNECT
	// requests open. Nil: CONNECT is refused.
	Intercept *intercept.Authority

	// ConnState and ConnContext are those of [Proxy.Server]. They are called for
	// connections that are tunnels too. Nil is allowed.
	ConnState   func(net.Conn, http.ConnState)
	ConnContext func(context.Context, net.Conn) context.Context

	// AccessLog writes a line a request to Log.
	AccessLog bool

	// AccessLogErrors leaves the lines of those out that were answered with a status
	// below 400 and not broken off.
	AccessLogErrors bool

	// Metrics is where the proxy's metrics are registered. Nil: nowhere, they
	// are counted all the same.
	Metrics prometheus.Registerer

	// History counts the calls of the last hour. Nil: nobody does.
	History *History

	// Log gets what operators should know. Nil: nothing is logged.
	Log *zap.Logger
}

// A Proxy is the handler of all requests. It is safe for concurrent use.
type Proxy struct {
	options       Options
	log           *zap.Logger
	faults        *zap.Logger // log, but each cause once per throttle.Every
	gate          *gate
	memory        *replay.Memory // for bodies that may be sent again
	metrics       *metrics
	stopping      atomic.Bool
	underWay      atomic.Int64  // requests
	load          load          // those of them that were let in
	tokenCalls    atomic.Int64  // under way, without a client key
	tokenBodyTime time.Duration // that their bodies may take
	upstream      *upstream.Transport
	reverse       *httputil.ReverseProxy
	tunnels       *intercept.Server // nil: CONNECT is refused
}

// New returns the proxy that main, tests and benchmarks all use.
func New(options Options) *Proxy {
	p := &Proxy{options: options, log: options.Log, gate: newGate(options), tokenBodyTime: tokenBodyTime}
	if p.log == nil {
		p.log = zap.NewNop()
	}
	p.metrics = newMetrics(options.Metrics, &p.underWay)
	p.faults = throttle.Logger(p.log, throttle.Every)
	p.memory = replay.NewMemory(options.RetryMemory)
	p.load.most = options.MaxRequests
	p.upstream = upstream.New(upstream.Config{
		URL: options.Upstream, TLS: options.UpstreamTLS, Timeout: options.UpstreamTimeout, HTTP2: options.UpstreamHTTP2,
		WithoutHTTP2: func() {
			p.log.Warn("HubSpot does not take HTTP/2: HTTP/1.1 is used")
		},
	})
	p.reverse = p.newReverse()
	if options.Intercept != nil {
		p.tunnels = intercept.NewServer(options.Intercept, p.Server())
		countTunnels(options.Metrics, p.tunnels.Open)
	}
	return p
}

// Shutdown ends the tunnels of clients: idle ones at once, the others when the
// requests in them have ended. It returns ctx's error if that ends first. The
// server of [Proxy.Server] is to be shut down at the same time: it does not know
// the tunnels that it has handed over.
func (p *Proxy) Shutdown(ctx context.Context) error {
	if p.tunnels == nil {
		return nil
	}
	return p.tunnels.Shutdown(ctx)
}

// CloseTunnels closes all tunnels of clients at once.
func (p *Proxy) CloseTunnels() {
	if p.tunnels != nil {
		p.tunnels.Close()
	}
}

// Close closes all tunnels, and the connections to HubSpot that are idle, and
// logs what was kept back.
func (p *Proxy) Close() {
	p.CloseTunnels()
	p.upstream.CloseIdleConnections()
	_ = p.faults.Sync()
}

// Stopping tells that the server is going to be shut down: from now on each
// answer is its connection's last, and says so.
//
// [http.Server.Shutdown] closes every idle connection at once, and drops a
// request that arrives on one while it does, which a client may not send again
// unless it is idempotent. What is still idle a while after Stopping is not in
// use.
func (p *Proxy) Stopping() { p.stopping.Store(true) }

// UnderWay returns how many requests have not ended yet.
func (p *Proxy) UnderWay() int64 { return p.underWay.Load() }

// Server returns a server for the proxy, with the limits that a proxy needs:
// on the time and size of a request's header, but none on how long a body may
// take in either direction.
//
// It speaks HTTP/1.1, and HTTP/2: over TLS, and without TLS to clients that know
// that beforehand (RFC 9113 section 3.3).
func (p *Proxy) Server() *http.Server {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler:           p,
		Protocols:         &protocols,
		ReadHeaderTimeout: 15 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    128 << 10,
		ConnState:         p.options.ConnState,
		ConnContext:       p.options.ConnContext,
		ErrorLog:          log.New(serverLog{p.faults}, "", 0),
		// OPTIONS * is HubSpot's to answer.
		DisableGeneralOptionsHandler: true,
	}
}

// ServeHTTP is a request's way, from top to bottom.
func (p *Proxy) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	p.underWay.Add(1)
	c := &call{began: time.Now(), request: r}
	a := &reply{ResponseWriter: rw, call: c, last: &p.stopping}
	c.flush = a.flush
	defer p.end(c, a)

	if r.Method == http.MethodConnect && p.tunnels != nil && intercept.From(r.Context()) == nil {
		p.connect(a)
		return
	}
	if refusal := p.admit(c, rw); refusal != nil {
		a.refuse(refusal)
		a.finished = true
		return
	}
	p.reverse.ServeHTTP(a, p.forwarded(c, a))
	if c.trailed() {
		c.conceal(rw.Header())
	}
	a.finished = true
}

// admit decides whether the request goes on.
func (p *Proxy) admit(c *call, rw http.ResponseWriter) (refused *refusal) {
	c.debug = c.request.Header.Get(wire.DebugHeader) == "1"
	if c.admission, refused = p.gate.admit(c.request); refused != nil {
		return refused
	}
	if refused = p.load.admit(c.clientName()); refused != nil {
		return refused
	}
	c.counted = true
	connlimit.Keep(c.request.Context()) // it may take as long as it needs
	return p.admitOAuth(rw, c)
}

// forwarded returns the client's request for ReverseProxy, with the call in its
// context.
func (p *Proxy) forwarded(c *call, a *reply) *http.Request {
	r := c.request.WithContext(context.WithValue(c.request.Context(), callKey{}, c))
	if _, has := r.Header["Upgrade"]; has {
		// ReverseProxy would forward it, or fail if it is malformed.
		r.Header = maps.Clone(r.Header)
		delete(r.Header, "Upgrade")
	}
	if !hasBody(r) || r.ProtoMajor != 1 {
		return r
	}
	// An answer may begin before the request has ended. Else net/http may read
	// and close the body under the transport then, which cuts answers short
	// (golang.org/issue/57786). Its error says that the writer is no server's; then
	// there is nothing to switch.
	_ = http.NewResponseController(a.ResponseWriter).EnableFullDuplex()
	if awaitsContinue(r) && !c.bodyRead {
		a.interim = &interim{header: make(http.Header)}
		r.Body = awaitedBody{r.Body, a}
	}
	return r
}

// lingerTime is how long a client that has its answer may go on sending the
// body that nobody reads any more. To reset the connection at once could keep
// the answer from it.
const lingerTime = 5 * time.Second

// end closes what the request had open, and records how it ended. It runs as well
// when the answer was broken off, by a panic that goes on to net/http.
func (p *Proxy) end(c *call, a *reply) {
	if !a.finished {
		// net/http's server drops what it has not sent of an answer that is
		// broken off.
		a.flush()
	}
	if c.body != nil {
		c.body.Close()
	}
	if c.request.ProtoMajor == 1 && c.unread() {
		// The connection ends; not to wait for a client that sends slowly.
		_ = http.NewResponseController(a.ResponseWriter).SetReadDeadline(time.Now().Add(lingerTime))
	}
	p.record(outcomeOf(c, a, time.Now()))
	p.endTokenCall(c)
	if c.counted {
		p.load.end(c.clientName())
	}
	p.underWay.Add(-1)
}
