// Package hubspottest has a fake HubSpot for tests, similar to net/http/httptest. It has an
// authorize page, a token endpoint that issues and renews OAuth tokens, and an API that
// checks the credential of every request and echoes the request.
//
// A test makes a [Server], gives it portals ([Server.Connect], [Server.Authorize],
// [Server.Install], [Server.SetAccessToken], [Server.SetAPIKey]), and configures the program
// under test with its URL. The test can cause failures ([Server.Expire], [Server.SetToken],
// [Server.SetEarly401], [Server.SetLimits], the paths below). With [DecodeEcho] and the
// counters the test checks what has arrived. The bodies and header fields of errors are
// copied from HubSpot's answers.
//
// # Paths
//
// Every path except /oauth/… and /fake/expire/… requires a credential.
// Every path that is not in this list answers an [Echo].
//
//	/oauth/authorize                       the authorize page; POST: its form
//	/oauth/{v1,v3,2026-03,2026-09}/token   the token endpoint
//	/oauth/{…, not v1}/token/introspect    POST: the portal of a token
//	/oauth/{…, not v1}/token/revoke        POST: ends a refresh token's grant
//	/oauth/…                               an Echo; requires no credential
//	/account-info/{v3,…}/details           the portal of the request's credential
//	/fake/expire/{portal}                  POST: calls Expire(portal); requires no credential
//	/fake/download?bytes=N[&chunked=1]     N bytes, of which byte i is i mod 251; chunked: without Content-Length
//	/fake/events?n=N                       N server-sent events, each after the first when NextEvent is called
//	/fake/hints                            103 with a Link header, then 200 without Content-Type
//	/fake/status?code=N                    status N, 200 to 999; 401 and 429 with HubSpot's body and header fields
//	/fake/hang[?unread=1]                  never answers; unread: does not read the request's body either
//	/fake/break?bytes=N                    announces 2N bytes, sends up to N, resets the connection
//	/fake/reset                            resets the connection before any answer and without reading the body
//	/fake/malformed                        answers something that is not HTTP
//
// With HTTP/2, a reset concerns the stream only. /fake/malformed then resets the stream.
//
// A test that needs other answers gives the server a handler of its own ([Server.Handle]).
package hubspottest

import (
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
)

// A Server is a fake HubSpot on a free port of 127.0.0.1. [NewServer] and [NewTLSServer]
// start one; the zero value is not usable. All methods are safe for concurrent use.
type Server struct {
	// URL is the base URL, such as http://127.0.0.1:41234. It does not end in a slash.
	URL string

	http      *http.Server
	clientTLS *tls.Config // nil without TLS
	routes    map[string]http.HandlerFunc

	early401  atomic.Bool
	gzip401   atomic.Bool
	allowKeys atomic.Bool                // set by AllowClientKeys
	observer  atomic.Pointer[func(Echo)] // set by Observe
	handler   atomic.Pointer[Handler]    // set by Handle
	events    chan struct{}              // one element for each unused call of NextEvent

	done    chan struct{}  // closed by Close
	closing sync.Once      // guards closing done
	serving sync.WaitGroup // the goroutine that accepts connections
	handles sync.WaitGroup // the running handlers

	mu     sync.Mutex // guards all below
	closed bool
	ledger ledger
	token  tokenSwitch
	counts counts
}

// maxPermits limits the unused calls of NextEvent.
const maxPermits = 1 << 16

// NewServer starts a fake HubSpot that uses HTTP/1 without TLS. It panics if it cannot
// listen, as httptest.NewServer does. The caller must close the server.
func NewServer() *Server {
	s := newServer()
	listener := listen()
	s.URL = "http://" + listener.Addr().String()
	s.serving.Go(func() { _ = s.http.Serve(listener) })
	return s
}

// NewTLSServer starts a fake HubSpot that uses TLS, with a certificate of its own that
// [Server.ClientTLS] trusts. The server offers HTTP/1.1 and, if http2 is true, HTTP/2.
// NewTLSServer panics if it cannot listen. The caller must close the server.
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
	s.routes = s.openRoutes()
	s.http = &http.Server{
		// A ServeMux would redirect paths such as //crm.
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

// ClientTLS returns a TLS configuration for clients that trusts this server's certificate.
// Each call returns a new copy. nil means that the server does not use TLS.
func (s *Server) ClientTLS() *tls.Config { return s.clientTLS.Clone() }

// TokenURL returns the address of the token endpoint, in HubSpot's current version.
func (s *Server) TokenURL() string { return s.URL + "/oauth/2026-03/token" }

// Close stops the server: it stops listening, closes every connection, and returns when
// every handler has returned, including hanging ones. Close may be called more than once.
// The counters can still be read afterwards.
//
// Close panics if any part of any request has contained one of the proxy's client keys,
// unless [Server.AllowClientKeys] was called. So every test that uses the server checks that
// no client key reaches HubSpot.
func (s *Server) Close() {
	s.closing.Do(func() {
		s.mu.Lock()
		s.closed = true
		s.mu.Unlock()
		close(s.done)
	})
	_ = s.http.Close()
	s.serving.Wait()
	// A connection that was accepted during the first call may have been registered
	// too late for that call to close it.
	_ = s.http.Close()
	s.handles.Wait()
	s.refuseKeys()
}

// serve is the handler of every request.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	if !s.enter() {
		panic(http.ErrAbortHandler)
	}
	defer s.handles.Done()

	s.watch(r)
	if serve, ok := s.routes[r.URL.Path]; ok {
		serve(w, r)
	} else if portal, ok := strings.CutPrefix(r.URL.Path, "/fake/expire/"); ok && r.Method == http.MethodPost {
		s.serveExpire(w, portal)
	} else {
		s.serveAPI(w, r)
	}
}

// openRoutes returns the handlers of the paths that require no credential.
func (s *Server) openRoutes() map[string]http.HandlerFunc {
	routes := map[string]http.HandlerFunc{
		authorizePath:     s.serveAuthorize,
		privateAppPath:    s.servePrivateApp,
		"/oauth/v1/token": s.serveToken,
	}
	for _, version := range []string{"v3", "2026-03", "2026-09"} {
		token := "/oauth/" + version + "/token"
		routes[token] = s.serveToken
		routes[token+"/introspect"] = s.withClient(s.serveIntrospect)
		routes[token+"/revoke"] = s.withClient(s.serveRevoke)
	}
	return routes
}

// enter registers a handler and returns true, or returns false if the server is closed. So
// no handler begins after Close has waited for all handlers.
func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.handles.Add(1)
	return true
}

// serveExpire serves Expire to people who use curl.
func (s *Server) serveExpire(w http.ResponseWriter, portal string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	s.mu.Lock()
	known := s.ledger.portals[portal] != nil
	s.mu.Unlock()
	if !known {
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, "there is no such portal\n")
		return
	}
	s.Expire(portal)
	_, _ = io.WriteString(w, "every access token issued to the portal so far has expired\n")
}
