// Package proxy is the way of a request: refused or let in, sent to HubSpot
// with its portal's credential instead of the client's, sent once more if
// HubSpot has rejected that, and answered with what HubSpot answered.
package proxy

import (
	"context"
	"log"
	"maps"
	"net/http"
	"net/http/httputil"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"hubspot-auth-proxy/proxy/connlimit"
	"hubspot-auth-proxy/proxy/intercept"
	"hubspot-auth-proxy/proxy/replay"
	"hubspot-auth-proxy/proxy/upstream"
	"hubspot-auth-proxy/proxy/wire"
	"hubspot-auth-proxy/tokens/throttle"
)

// A Proxy is the handler of all requests. It is safe for concurrent use.
type Proxy struct {
	options  Options
	faults   *zap.Logger // each cause once per throttle.Every
	gate     *gate
	load     load // the requests that were let in
	oauth    *oauth
	turns    *turns
	reverse  *httputil.ReverseProxy
	upstream *upstream.Transport
	tunnels  *intercept.Server // nil means that CONNECT is refused
	recorder *recorder
	underWay atomic.Int64 // requests
	stopping atomic.Bool
}

// New returns the proxy that main, tests and benchmarks all use.
func New(options Options) *Proxy {
	if options.Log == nil {
		options.Log = zap.NewNop()
	}
	log := options.Log
	p := &Proxy{options: options, faults: throttle.Logger(log, throttle.Every), gate: newGate(options)}
	p.load.most = options.MaxRequests
	p.oauth = newOAuth(p.gate, options.Credentials)
	p.turns = newTurns(options)
	p.upstream = upstream.New(upstream.Config{
		URL: options.Upstream, TLS: options.UpstreamTLS, Timeout: options.UpstreamTimeout, HTTP2: options.UpstreamHTTP2,
		WithoutHTTP2: func() { log.Warn("HubSpot does not take HTTP/2: HTTP/1.1 is used") },
	})
	metrics := newMetrics(options.Metrics, &p.underWay)
	p.recorder = newRecorder(options, metrics, p.faults)
	p.reverse = newReverse(options.Upstream, &authenticate{
		credentials: options.Credentials,
		upstream:    p.upstream,
		memory:      replay.NewMemory(options.RetryMemory),
		bodyLimit:   options.RetryBodyLimit,
		metrics:     metrics,
		turns:       p.turns,
	}, p.faults)
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

// connect answers a CONNECT request: connect opens a tunnel, and returns when
// the TLS handshake inside is done, or it refuses.
func (p *Proxy) connect(a *reply) {
	c := a.call
	var refused *refusal
	if c.admission, refused = p.gate.admitTunnel(c.request); refused != nil {
		a.refuse(refused)
		a.finished = true
		return
	}
	raw, buffered, err := http.NewResponseController(a.ResponseWriter).Hijack()
	if err != nil {
		a.refuse(methodRefused(http.MethodConnect))
		a.finished = true
		return
	}
	c.connected, a.status = true, http.StatusOK
	ahead, _ := buffered.Reader.Peek(buffered.Reader.Buffered())
	if err := p.tunnels.Serve(raw, ahead, *c.tunnel); err != nil {
		a.failed = true
		p.faults.Warn("a client did not complete the TLS handshake in its tunnel; check that it trusts the CA of INTERCEPT_CA_CERT_FILE", zap.Error(err))
		return
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
	if refused = p.oauth.admit(rw, c); refused != nil {
		return refused
	}
	return p.turns.admit(c)
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
	p.recorder.record(outcomeOf(c, a, time.Now()))
	p.oauth.tokenCalls.end(c)
	p.turns.end(c)
	if c.counted {
		p.load.end(c.clientName())
	}
	p.underWay.Add(-1)
}
