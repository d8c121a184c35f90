package intercept

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// site is a server of tunnels, and what its clients trust.
type site struct {
	*Server
	trusted *x509.CertPool
}

func newSite(t *testing.T, handler http.HandlerFunc) site {
	t.Helper()
	certificate, key, err := Generate(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	authority, faults := Load(certificate, key, "", nil)
	if faults != nil {
		t.Fatal(faults)
	}
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(certificate)
	return site{NewServer(authority, &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute, IdleTimeout: time.Minute}), trusted}
}

// dial opens a tunnel, and returns the client's end, after the answer to CONNECT,
// and what Serve returns.
func (s site) dial(t *testing.T) (client net.Conn, served <-chan error) {
	t.Helper()
	client, server := net.Pipe()
	result := make(chan error, 1)
	go func() { result <- s.Serve(server, nil, Tunnel{Name: "api.hubapi.com"}) }()
	answer := make([]byte, len("HTTP/1.1 200 Connection established\r\n\r\n"))
	if _, err := io.ReadFull(client, answer); err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 200 ") {
		t.Fatalf("%q, %v", answer, err)
	}
	return client, result
}

func (s site) shake(t *testing.T, conn net.Conn) *tls.Conn {
	t.Helper()
	inside := tls.Client(conn, &tls.Config{RootCAs: s.trusted, ServerName: "api.hubapi.com", NextProtos: []string{"http/1.1"}})
	if err := inside.Handshake(); err != nil {
		t.Fatal(err)
	}
	return inside
}

func TestAHandshakeHasTenSeconds(t *testing.T) {
	for name, sent := range map[string]string{"nothing": "", "a part": "\x16\x03\x01\x02\x00\x01"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t, nil)
				defer s.Close()
				client, served := s.dial(t)
				defer client.Close()
				began := time.Now()
				_, _ = io.WriteString(client, sent)
				go func() { _, _ = io.Copy(io.Discard, client) }()
				err := <-served
				if took := time.Since(began); err == nil || took != handshakeTimeout {
					t.Errorf("%v after %v", err, took)
				}
				if n := s.Open(); n != 0 {
					t.Errorf("%d tunnels are open", n)
				}
			})
		})
	}
}

func TestATunnelThatIsNotUsedIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, nil)
		defer s.Close()
		client, served := s.dial(t)
		inside := s.shake(t, client)
		if err := <-served; err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if _, err := inside.Read(make([]byte, 1)); err == nil || time.Since(began) > time.Minute {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		synctest.Wait()
		if n := s.Open(); n != 0 {
			t.Errorf("%d tunnels are open", n)
		}
	})
}

func TestShutdownWaitsForRequestsInTunnels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer := make(chan struct{})
		s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
			if From(r.Context()).Name != "api.hubapi.com" {
				t.Error("the request does not know its tunnel")
			}
			<-answer
			_, _ = io.WriteString(w, "answered")
		})
		defer s.Close()
		busyConn, _ := s.dial(t)
		busy := s.shake(t, busyConn)
		_, _ = io.WriteString(busy, "GET / HTTP/1.1\r\nHost: api.hubapi.com\r\n\r\n")
		idleConn, _ := s.dial(t)
		idle := s.shake(t, idleConn)
		slow, slowServed := s.dial(t)
		defer slow.Close()
		synctest.Wait()

		ended := make(chan error, 1)
		go func() { ended <- s.Shutdown(context.Background()) }()
		if err := <-slowServed; err == nil {
			t.Error("a handshake goes on")
		}
		if _, err := idle.Read(make([]byte, 1)); err == nil {
			t.Error("an idle tunnel stays")
		}
		late, server := net.Pipe()
		defer late.Close()
		if err := s.Serve(server, nil, Tunnel{Name: "api.hubapi.com"}); !errors.Is(err, errClosed) {
			t.Errorf("a tunnel is opened: %v", err)
		}
		select {
		case err := <-ended:
			t.Fatalf("it has not waited: %v", err)
		case <-time.After(30 * time.Second):
		}
		close(answer)
		text, _ := io.ReadAll(busy)
		if !strings.HasSuffix(string(text), "answered") {
			t.Errorf("the request got %q", text)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if n := s.Open(); n != 0 {
			t.Errorf("%d tunnels are open", n)
		}
	})
}

func TestCloseEndsWhatIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		conn, _ := s.dial(t)
		busy := s.shake(t, conn)
		_, _ = io.WriteString(busy, "GET / HTTP/1.1\r\nHost: api.hubapi.com\r\n\r\n")
		slow, slowServed := s.dial(t)
		defer slow.Close()
		synctest.Wait()
		s.Close()
		s.Close()
		if _, err := busy.Read(make([]byte, 1)); err == nil {
			t.Error("the request goes on")
		}
		if err := <-slowServed; err == nil {
			t.Error("a handshake goes on")
		}
		synctest.Wait()
		if n := s.Open(); n != 0 {
			t.Errorf("%d tunnels are open", n)
		}
	})
}

// What limits connections knows those that it has accepted, and not what is
// spoken on them.
func TestHooksGetTheConnectionThatWasHandedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type key struct{}
		certificate, caKey, err := Generate(time.Now())
		if err != nil {
			t.Fatal(err)
		}
		authority, faults := Load(certificate, caKey, "", nil)
		if faults != nil {
			t.Fatal(faults)
		}
		trusted := x509.NewCertPool()
		trusted.AppendCertsFromPEM(certificate)
		var states []http.ConnState
		client, server := net.Pipe()
		s := site{NewServer(authority, &http.Server{
			Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				if r.Context().Value(key{}) != server || From(r.Context()) == nil {
					t.Error("the request's context is not of the connection")
				}
			}),
			ConnState: func(c net.Conn, now http.ConnState) {
				if c != server {
					t.Errorf("the state is of %T", c)
				}
				states = append(states, now)
			},
			ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, key{}, c) },
		}), trusted}
		go func() { _ = s.Serve(server, nil, Tunnel{Name: "api.hubapi.com"}) }()
		if _, err := io.ReadFull(client, make([]byte, len("HTTP/1.1 200 Connection established\r\n\r\n"))); err != nil {
			t.Fatal(err)
		}
		inside := s.shake(t, client)
		_, _ = io.WriteString(inside, "GET / HTTP/1.1\r\nHost: api.hubapi.com\r\n\r\n")
		_, _ = inside.Read(make([]byte, 1000))
		synctest.Wait()
		s.Close()
		synctest.Wait()
		if want := []http.ConnState{http.StateNew, http.StateActive, http.StateIdle, http.StateClosed}; !slices.Equal(states, want) {
			t.Errorf("states %v, want %v", states, want)
		}
	})
}
