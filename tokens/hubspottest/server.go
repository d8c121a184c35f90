// Package hubspottest is a fake HubSpot on a loopback port, in the manner of
// net/http/httptest: an authorize page, a token endpoint that gives and
// refreshes OAuth tokens, and an API that checks the credential of every
// request and echoes what it received.
//
// A test makes a [Server], gives it portals ([Server.Connect],
// [Server.Authorize], [Server.Install], [Server.SetAccessToken], [Server.SetAPIKey]), points the
// program under test at its URL, lets things go wrong ([Server.Expire],
// [Server.SetToken], [Server.SetEarly401], [Server.SetLimits], the paths below), and asserts with
// [DecodeEcho] and the counters what arrived. Bodies and headers of its errors
// are copied from real answers.
//
// # Paths
//
// Every path except /oauth/…, /fake/marketplace…, /fake/expire/… and /fake/fail-next/… wants a
// credential, and every path not in this list answers an [Echo].
//
//	/oauth/authorize                       the authorize page; POST: its form
//	/fake/marketplace?install_url=URL      the page on which an installation begins; POST: its form
//	/fake/marketplace/return               where the app sends the browser back to
//	/oauth/{v1,v3,2026-03,2026-09}/token   the token endpoint
//	/oauth/{…, not v1}/token/introspect    POST: whose token it is
//	/oauth/{…, not v1}/token/revoke        POST: ends a refresh token's grant
//	/oauth/…                               an Echo, without a credential
//	/account-info/{v3,…}/details           whose credential was sent
//	/fake/expire/{portal}                  POST: does Expire(portal), without a credential
//	/fake/fail-next/{portal}?code=N&n=N    POST: does FailNext(portal, n, code), without a credential
//	/fake/download?bytes=N[&chunked=1]     N bytes, byte i being i mod 251; chunked: without Content-Length
//	/fake/events?n=N                       N server-sent events, each after the first when NextEvent is called
//	/fake/gzip                             a JSON body, gzipped if the request accepts that
//	/fake/hints                            103 with a Link header, then 200 without Content-Type
//	/fake/trailers                         chunked, trailers X-Fake-Sum (the body's SHA-256) and X-Fake-Part (two values)
//	/fake/two-writes                       head and body in two writes; the body is the request body's SHA-256 in hex
//	/fake/status?code=N                    status N, 200 to 999; 401 and 429 with the real body and headers
//	/fake/redirect?to=URL                  302 to URL, with the hapikey that was received appended
//	/fake/reflect                          the credential that was received, in X-Reflected and Link
//	/fake/hang[?unread=1]                  never answers; unread: does not read the request body either
//	/fake/break?bytes=N                    announces 2N bytes, sends up to N, resets the connection
//	/fake/reset                            resets the connection before any answer and without reading the body
//	/fake/malformed                        answers something that is not HTTP
//
// Over HTTP/2 a reset concerns the stream only, and so does /fake/malformed.
//
// After [Server.ServeCRM] these too answer as HubSpot's do, out of a store in
// memory that each portal has of its own:
//
//	/crm/v3/objects/{type}[/{id}]          create, list, get, update, archive
//	/crm/v3/objects/{type}/search          filters with EQ only
//	/crm/v3/objects/{type}/batch/{action}  create, read, update, archive
//	/crm/v4/objects/{type}/{id}/associations/…
//	                                       associate two objects, list, archive
//	/files/v3/files[/{id}]                 POST: multipart upload; GET: its details, with the bytes' MD5
//	/webhooks/v3/{app}/subscriptions       GET: one subscription
//	/oauth/v1/{access,refresh}-tokens/{token}
//	                                       GET: whose token it is, without a credential
package hubspottest

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
)

// A Server is a fake HubSpot: token endpoint and API, on a port of 127.0.0.1.
// Make it with [NewServer] or [NewTLSServer]; the zero value is not usable.
// All methods are safe for concurrent use.
type Server struct {
	// URL is the base of every address, such as http://127.0.0.1:41234,
	// without a slash at its end.
	URL string

	http      *http.Server
	clientTLS *tls.Config // nil without TLS

	early401  atomic.Bool
	gzip401   atomic.Bool
	allowKeys atomic.Bool                // AllowClientKeys
	observer  atomic.Pointer[func(Echo)] // Observe
	crm       atomic.Pointer[crm]        // ServeCRM
	events    chan struct{}              // permits given by NextEvent

	done    chan struct{}  // closed by Close
	closing sync.Once      // guards closing done
	serving sync.WaitGroup // the goroutine that accepts connections
	handles sync.WaitGroup // the handlers at work

	mu     sync.Mutex // guards all below
	closed bool
	ledger ledger
	token  tokenSwitch
	counts counts
}

// maxPermits bounds the calls of NextEvent that no stream has used yet.
const maxPermits = 1 << 16

// NewServer starts a fake HubSpot that speaks plain HTTP/1. It panics if it
// cannot listen, as httptest.NewServer does. The caller must Close it.
func NewServer() *Server {
	s := newServer()
	listener := listen()
	s.URL = "http://" + listener.Addr().String()
	s.serving.Go(func() { _ = s.http.Serve(listener) })
	return s
}

// NewTLSServer starts a fake HubSpot that speaks TLS, with a certificate of
// its own that [Server.ClientTLS] trusts. It offers HTTP/1.1 and, if http2 is
// true, HTTP/2. It panics if it cannot listen. The caller must Close it.
func NewTLSServer(http2 bool) *Server {
	s := newServer()
	certificate, pool := newCertificate()
	s.clientTLS = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	s.http.TLSConfig = &tls.Config{
		Certificates: []tls.Certificate{certificate},
		MinVersion:   tls.VersionTLS12,
	}
	s.http.Protocols.SetHTTP2(http2)
	listener := listen()
	s.URL = "https://" + listener.Addr().String()
	s.serving.Go(func() { _ = s.http.ServeTLS(listener, "", "") })
	return s
}

func newServer() *Server {
	s := &Server{
		events: make(chan struct{}, maxPermits),
		done:   make(chan struct{}),
		ledger: newLedger(),
		token:  tokenSwitch{changed: make(chan struct{})},
	}
	s.http = &http.Server{
		// No ServeMux: it would redirect paths such as //crm.
		Handler:                      http.HandlerFunc(s.serve),
		Protocols:                    new(http.Protocols),
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     log.New(io.Discard, "", 0),
	}
	s.http.Protocols.SetHTTP1(true)
	return s
}

func listen() net.Listener {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic("hubspottest: cannot listen: " + err.Error())
	}
	return listener
}

// ClientTLS returns settings for a client that trusts this server's
// certificate, a new copy each time. It is nil if the server has no TLS.
func (s *Server) ClientTLS() *tls.Config { return s.clientTLS.Clone() }

// TokenURL is the address of the token endpoint in the version that is
// current at HubSpot.
func (s *Server) TokenURL() string { return s.URL + "/oauth/2026-03/token" }

// Close ends the server at once: it stops listening, cuts every connection,
// and returns when every handler, hanging ones too, has returned. It may be
// called more than once. The counters can still be read afterwards.
//
// It panics if a client key of the proxy's has arrived in any request, in
// whatever part of it, unless [Server.AllowClientKeys] was called: so each test
// that uses the server shows that no key reaches HubSpot.
func (s *Server) Close() {
	s.closing.Do(func() {
		s.mu.Lock()
		s.closed = true
		s.mu.Unlock()
		close(s.done)
	})
	_ = s.http.Close()
	s.serving.Wait()
	// Once more: a connection accepted during the first call may have been
	// registered after it looked.
	_ = s.http.Close()
	s.handles.Wait()
	s.refuseKeys()
}

// Until waits until condition is true, and returns nil. It looks again
// whenever one of the server's counters has changed, so that tests need not
// sleep:
//
//	err := hub.Until(ctx, func() bool { return hub.Cancelled() == 1 })
//
// It returns ctx's error when ctx ends first, and another one when the server
// is closed.
func (s *Server) Until(ctx context.Context, condition func() bool) error {
	for {
		// Asked for before looking, so that no change falls in between.
		changed := s.nextChange()
		if condition() {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-s.done:
			return errors.New("hubspottest: the server was closed")
		}
	}
}

// serve is the handler of every request.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	if !s.enter() {
		panic(http.ErrAbortHandler)
	}
	defer s.handles.Done()

	s.watch(r)
	portal, isControl := strings.CutPrefix(r.URL.Path, "/fake/expire/")
	switch {
	case isControl && r.Method == http.MethodPost:
		s.serveExpire(w, portal)
	case strings.HasPrefix(r.URL.Path, failNextPath) && r.Method == http.MethodPost:
		s.serveFailNext(w, r)
	case isTokenPath(r.URL.Path):
		s.serveToken(w, r)
	case isIntrospectPath(r.URL.Path):
		s.serveIntrospect(w, r)
	case isRevokePath(r.URL.Path):
		s.serveRevoke(w, r)
	case r.URL.Path == privateAppPath:
		s.servePrivateApp(w, r)
	case r.URL.Path == marketplacePath:
		s.serveMarketplace(w, r)
	case r.URL.Path == returnPath:
		s.serveReturn(w, r)
	case r.URL.Path == authorizePath:
		s.serveAuthorize(w, r)
	default:
		s.serveAPI(w, r)
	}
}

// enter registers a handler, unless the server is closed: Close must not
// miss one that begins while it waits.
func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.handles.Add(1)
	return true
}

// serveExpire is Expire for people with curl.
func (s *Server) serveExpire(w http.ResponseWriter, portal string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if !s.knows(portal) {
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, "there is no such portal\n")
		return
	}
	s.Expire(portal)
	_, _ = io.WriteString(w, "every access token issued to the portal so far is expired\n")
}
