package faults

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// raw is a HubSpot that answers some paths with scripts, which control every byte, and
// forwards the other paths to the stage's fake HubSpot. Each answer ends the connection,
// unless the script keeps it open.
type raw struct {
	s        *stage
	listener net.Listener
	work     sync.WaitGroup

	mu      sync.Mutex
	scripts map[string]script
	conns   map[net.Conn]bool
}

// script answers a request and reports whether the connection stays open. The script
// also decides whether the request's body is read.
type script func(conn *net.TCPConn, r *http.Request) (goesOn bool)

// newRaw puts a raw HubSpot between the stage's replicas and its fake HubSpot, until the
// test ends.
func newRaw(s *stage) *raw {
	s.t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	u := &raw{s: s, listener: listener, scripts: make(map[string]script), conns: make(map[net.Conn]bool)}
	s.settings = append(s.settings, "UPSTREAM_URL=http://"+listener.Addr().String(), "HUBSPOT_TOKEN_URL="+s.hub.TokenURL())
	u.work.Go(u.accept)
	s.t.Cleanup(u.end)
	return u
}

// answer sets the script for the paths /fault/{name}/…, and returns a function that
// returns such a path for a portal.
func (u *raw) answer(name string, do script) (target func(portal, id string) string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.scripts[name] = do
	return func(portal, id string) string { return fmt.Sprintf("/portals/%s/fault/%s/%s", portal, name, id) }
}

func (u *raw) accept() {
	for {
		conn, err := u.listener.Accept()
		if err != nil {
			return
		}
		u.mu.Lock()
		u.conns[conn] = true
		u.mu.Unlock()
		u.work.Go(func() {
			u.serve(conn.(*net.TCPConn))
			_ = conn.Close()
			u.mu.Lock()
			delete(u.conns, conn)
			u.mu.Unlock()
		})
	}
}

func (u *raw) end() {
	_ = u.listener.Close()
	u.mu.Lock()
	for conn := range u.conns {
		_ = conn.Close()
	}
	u.mu.Unlock()
	u.work.Wait()
}

func (u *raw) serve(conn *net.TCPConn) {
	in := bufio.NewReader(conn)
	for {
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		name, _, scripted := strings.Cut(strings.TrimPrefix(r.URL.Path, "/fault/"), "/")
		u.mu.Lock()
		do := u.scripts[name]
		u.mu.Unlock()
		if !scripted || do == nil {
			u.forward(conn, r)
			return
		}
		u.s.seen.note(r.Method, r.URL.Path, r.Header.Get("Authorization"))
		if !do(conn, r) {
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
	}
}

// forward forwards the request to the fake HubSpot, and its answer to the proxy.
func (u *raw) forward(conn net.Conn, r *http.Request) {
	out, err := http.NewRequest(r.Method, u.s.hub.URL+r.RequestURI, r.Body)
	if err != nil {
		return
	}
	out.Header = r.Header
	response, err := plain.Do(out)
	if err != nil {
		return
	}
	defer response.Body.Close()
	response.Close = true
	_ = response.Write(conn)
}

// reset closes the connection with a RST.
func reset(conn *net.TCPConn) {
	_ = conn.SetLinger(0)
	_ = conn.Close()
}

// drain reads the request's body to its end.
func drain(r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }

var methods = []string{"GET", "POST", "PATCH", "PUT", "DELETE"}

// wantServedAtOnce checks that every replica serves the next request for each portal.
func (s *stage) wantServedAtOnce(t *testing.T) string {
	t.Helper()
	for _, r := range s.replicas {
		for _, portal := range portals {
			if got := r.call("GET", objectOf(portal, "next")); !got.served() {
				t.Errorf("the next request for portal %s: %s %s", portal, got.kind(), got.body)
			}
		}
	}
	return "at once"
}
