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

// door is a way to the fake HubSpot's token endpoint that can be shut.
type door struct {
	t      *testing.T
	hub    *hubspottest.Server
	addr   string
	server *http.Server
	cut    atomic.Bool // answers break off
	hold   atomic.Pointer[heldCall]
}

// heldCall holds the calls of the token endpoint back until it is released.
type heldCall struct{ reached, released chan struct{} }

func newDoor(t *testing.T, hub *hubspottest.Server) *door {
	d := &door{t: t, hub: hub}
	d.open()
	t.Cleanup(d.shut)
	return d
}

// setting has the program ask at the door.
func (d *door) setting() string { return "HUBSPOT_TOKEN_URL=http://" + d.addr + "/oauth/2026-03/token" }

// open listens, where it listened before.
func (d *door) open() {
	d.t.Helper()
	if d.addr == "" {
		d.addr = "127.0.0.1:0"
	}
	listener, err := net.Listen("tcp", d.addr)
	if err != nil {
		d.t.Fatal(err)
	}
	d.addr, d.server = listener.Addr().String(), &http.Server{Handler: d}
	go func(server *http.Server) { _ = server.Serve(listener) }(d.server)
}

// shut makes connections be refused.
func (d *door) shut() { _ = d.server.Close() }

func (d *door) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	form, _ := io.ReadAll(r.Body)
	if h := d.hold.Load(); h != nil {
		close(h.reached)
		<-h.released
	}
	if d.cut.Load() {
		rw.Header().Set("Content-Type", "application/json")
		rw.Header().Set("Content-Length", "300")
		_, _ = io.WriteString(rw, `{"access_token":"`)
		panic(http.ErrAbortHandler)
	}
	response, err := plain.Post(d.hub.TokenURL(), r.Header.Get("Content-Type"), strings.NewReader(string(form)))
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
