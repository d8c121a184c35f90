// Package proxy handles requests: it refuses or admits them, replaces the client's
// credential by the portal's, forwards them to HubSpot, repeats them once with another
// credential if HubSpot answers 401, and returns HubSpot's answer.
package proxy

import (
	"cmp"
	"context"
	"log"
	"maps"
	"net/http"
	"net/http/httputil"
	"slices"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"hubspot-auth-proxy/proxy/activity"
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
	faults   *zap.Logger // throttled: each cause and portal once per throttle.Every
	gate     *gate
	load     load // the admitted requests
	oauth    oauth
	turns    *turns
	reverse  *httputil.ReverseProxy
	upstream *upstream.Transport
	tunnels  *intercept.Server // nil means that CONNECT is refused
	recorder *recorder
	underWay atomic.Int64 // all requests under way
	stopping atomic.Bool

	lingerTime time.Duration
}

// New returns a proxy. Close it when it is no longer needed.
func New(options Options) *Proxy {
	log := cmp.Or(options.Log, zap.NewNop())
	options.Log = log
	options.Activity = cmp.Or(options.Activity, activity.New(nil))
	options.ServePortals = slices.Sorted(slices.Values(options.ServePortals)) // for authorize
	p := &Proxy{options: options, faults: throttle.Logger(log, throttle.Every), lingerTime: lingerTime}
	p.gate = newGate(&p.options)
	p.oauth = oauth{gate: p.gate, tokenCalls: tokenCalls{bodyTime: tokenBodyTime}}
	p.load.most = options.MaxRequests
	p.turns = &turns{Options: &p.options}
	p.upstream = upstream.New(upstream.Config{
		URL: options.Upstream, TLS: options.UpstreamTLS, Timeout: options.UpstreamTimeout, HTTP2: options.UpstreamHTTP2,
		WithoutHTTP2: func() { log.Warn("HubSpot does not accept HTTP/2; the proxy uses HTTP/1.1") },
	})
	metrics := newMetrics(options.Metrics, &p.underWay, options.Activity)
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

// ServeHTTP implements http.Handler. It shows the whole way of a request: admit, forward,
// record.
func (p *Proxy) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	p.underWay.Add(1)
	c := &call{began: time.Now(), request: r}
	a := &reply{ResponseWriter: rw, call: c, stopping: &p.stopping}
	c.flush = a.flush
	defer p.end(c, a)

	if r.Method == http.MethodConnect && p.tunnels != nil && intercept.From(r.Context()) == nil {
		p.connect(a)
		return
	}
	if refusal := p.admit(c, rw); refusal != nil {
		a.refuse(refusal)
		return
	}
	p.reverse.ServeHTTP(a, p.forwarded(c, a))
	if c.response != nil && len(c.response.Trailer) > 0 {
		c.cleanTrailers(a.Header(), http.TrailerPrefix)
	}
	a.finished = true
}

// admit runs the checks in order: gate (rights, portal), load (MAX_REQUESTS), oauth (bodies
// under /oauth/), turns (rate limits).
func (p *Proxy) admit(c *call, rw http.ResponseWriter) (refused *refusal) {
	c.debug = c.request.Header.Get(wire.DebugHeader) == "1"
	if c.admission, refused = p.gate.admit(c.request); refused != nil {
		return refused
	}
	if refused = p.load.admit(c.clientName()); refused != nil {
		return refused
	}
	c.inLoad = true
	connlimit.Keep(c.request.Context()) // an admitted request has no time limit
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
	// An answer may begin before the request's body has ended. Without full duplex,
	// net/http's server would then read and close the body while the transport still
	// reads it, which truncates answers (golang.org/issue/57786). An error means that the
	// writer is not net/http's server's, as in some tests.
	_ = http.NewResponseController(a.ResponseWriter).EnableFullDuplex()
	if awaitsContinue(r) && !c.bodyRead {
		a.interim = &interim{header: make(http.Header)}
		r.Body = awaitedBody{r.Body, a.interim, a.ResponseWriter}
	}
	return r
}

// lingerTime is how long a client may continue to send a body after its answer. Resetting
// the connection at once could destroy the answer before the client reads it.
const lingerTime = 5 * time.Second

// end releases what the request holds, and records how it ended. It also runs when the
// answer is broken off by a panic.
func (p *Proxy) end(c *call, a *reply) {
	if c.body != nil {
		c.body.Close()
	}
	if !a.finished {
		a.breakOff()
	}
	p.recorder.record(outcomeOf(c, a, time.Now()), a.Header())
	if c.request.ProtoMajor == 1 && c.unread() {
		p.linger(c, a)
	}
	p.oauth.tokenCalls.end(c)
	p.turns.end(c)
	if c.inLoad {
		p.load.end(c.clientName())
	}
	p.underWay.Add(-1)
}

// linger limits how long the server reads the rest of the client's body, before the end of
// the answer closes the connection. If a transport is still reading the body, linger first
// ends that Read. Otherwise the server would end it, and remove the deadline.
//
// Call linger after outcomeOf, because the server takes a Read that fails for a client
// that has left.
func (p *Proxy) linger(c *call, a *reply) {
	client := http.NewResponseController(a.ResponseWriter)
	if c.body != nil && client.SetReadDeadline(time.Unix(1, 0)) == nil {
		c.body.Wait()
	}
	_ = client.SetReadDeadline(time.Now().Add(p.lingerTime))
}

// connect answers a CONNECT request. It refuses the request, or opens a tunnel and returns
// when the TLS handshake inside the tunnel has ended.
func (p *Proxy) connect(a *reply) {
	c := a.call
	var refused *refusal
	if c.admission, refused = p.gate.admitTunnel(c.request); refused != nil {
		a.refuse(refused)
		return
	}
	raw, buffered, err := http.NewResponseController(a.ResponseWriter).Hijack()
	if err != nil {
		a.refuse(connectMisplaced())
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

// Shutdown closes the clients' tunnels: idle ones at once, the others when their requests
// have ended. If ctx ends first, Shutdown returns its error. Shut down the server of
// [Proxy.Server] at the same time, because that server's Shutdown does not include the
// tunnels.
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

// Close closes all tunnels and the idle connections to HubSpot, and writes log messages
// that were throttled.
func (p *Proxy) Close() {
	p.CloseTunnels()
	p.upstream.CloseIdleConnections()
	_ = p.faults.Sync()
}

// Stopping announces that the server will be shut down. From now on each answer closes its
// connection, by Connection: close or GOAWAY.
//
// Call Stopping some time before [http.Server.Shutdown], which closes idle connections at
// once. A request that arrives on such a connection at that moment is lost, and a client
// may not repeat it unless it is idempotent. After Stopping, the connections that are in
// use end by themselves, so Shutdown closes only unused ones.
func (p *Proxy) Stopping() { p.stopping.Store(true) }

// UnderWay returns the number of requests that have not ended yet.
func (p *Proxy) UnderWay() int64 { return p.underWay.Load() }

// Server returns a new server for the proxy. It limits the time and the size of a request's
// header. It does not limit how long a body takes in either direction.
//
// The server supports HTTP/1.1, HTTP/2 over TLS, and HTTP/2 without TLS with prior
// knowledge (RFC 9113 section 3.3).
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
		// OPTIONS * is forwarded to HubSpot.
		DisableGeneralOptionsHandler: true,
	}
}
