package faults

import (
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"hubspot-auth-proxy/tokens/hubspottest"
)

// endpointProxy forwards the program's token calls to the fake HubSpot. A test can
// close it, delay its calls, and let its answers break off.
type endpointProxy struct {
	t      *testing.T
	hub    *hubspottest.Server
	addr   string
	server *http.Server
	cut    atomic.Bool // answers break off in the middle
	hold   atomic.Pointer[heldCall]
}

// heldCall delays a token call: the endpointProxy closes reached when the call arrives,
// and forwards the call when the test closes released.
type heldCall struct{ reached, released chan struct{} }

func newEndpointProxy(t *testing.T, hub *hubspottest.Server) *endpointProxy {
	p := &endpointProxy{t: t, hub: hub}
	p.open()
	t.Cleanup(p.close)
	return p
}

// setting makes the program call the token endpoint through the endpointProxy.
func (p *endpointProxy) setting() string {
	return "HUBSPOT_TOKEN_URL=http://" + p.addr + "/oauth/2026-03/token"
}

// open listens. If the endpointProxy has listened before, it listens at the same
// address again.
func (p *endpointProxy) open() {
	p.t.Helper()
	if p.addr == "" {
		p.addr = "127.0.0.1:0"
	}
	listener, err := net.Listen("tcp", p.addr)
	if err != nil {
		p.t.Fatal(err)
	}
	p.addr, p.server = listener.Addr().String(), &http.Server{Handler: p}
	go func(server *http.Server) { _ = server.Serve(listener) }(p.server)
}

// close makes the endpointProxy refuse connections.
func (p *endpointProxy) close() { _ = p.server.Close() }

func (p *endpointProxy) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	form, _ := io.ReadAll(r.Body)
	if h := p.hold.Load(); h != nil {
		close(h.reached)
		<-h.released
	}
	if p.cut.Load() {
		rw.Header().Set("Content-Type", "application/json")
		rw.Header().Set("Content-Length", "300")
		_, _ = io.WriteString(rw, `{"access_token":"`)
		panic(http.ErrAbortHandler)
	}
	response, err := plain.Post(p.hub.TokenURL(), r.Header.Get("Content-Type"), strings.NewReader(string(form)))
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer response.Body.Close()
	for _, name := range []string{"Content-Type", "Retry-After"} {
		rw.Header()[name] = response.Header[name]
	}
	rw.WriteHeader(response.StatusCode)
	_, _ = io.Copy(rw, response.Body)
}
