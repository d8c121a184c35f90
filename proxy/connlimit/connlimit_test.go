package connlimit_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"hubspot-auth-proxy/proxy/connlimit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server answers /hold when release is closed, and the rest at once.
type server struct {
	t       *testing.T
	limit   *connlimit.Listener
	addr    string
	release func()
}

func newServer(t *testing.T, most int, grace time.Duration, secure bool) *server {
	t.Helper()
	hold := make(chan struct{})
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hold" {
			<-hold
		}
		_, _ = io.WriteString(w, "ok")
	}))
	limit := connlimit.New(s.Listener, most, grace)
	s.Listener, s.Config.ConnState = limit, limit.ConnState
	if secure {
		s.StartTLS()
	} else {
		s.Start()
	}
	release := sync.OnceFunc(func() { close(hold) })
	t.Cleanup(s.Close)
	t.Cleanup(release) // before the server, which waits for them
	return &server{t: t, limit: limit, addr: s.Listener.Addr().String(), release: release}
}

// client is one connection.
type client struct {
	*server
	net.Conn
	reader *bufio.Reader
}

func (s *server) dial() *client {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	return &client{server: s, Conn: conn, reader: bufio.NewReader(conn)}
}

func (c *client) send(path string) *client {
	_, _ = io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n")
	return c
}

// answered reports whether a whole answer comes.
func (c *client) answered() bool {
	response, err := http.ReadResponse(c.reader, nil)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return err == nil && string(body) == "ok"
}

// silent reports whether nothing comes, not even the end, for a while.
func (c *client) silent() bool {
	_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	defer func() { _ = c.SetReadDeadline(time.Now().Add(10 * time.Second)) }()
	_, err := c.reader.Peek(1)
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}

func (s *server) opens(n int) {
	s.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); s.limit.Open() != n; <-time.After(time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("%d are open, want %d", s.limit.Open(), n)
		}
	}
}

func TestAnIdleConnectionMakesWayAndOneInUseDoesNot(t *testing.T) {
	s := newServer(t, 2, time.Hour, false)
	busy, idle := s.dial().send("/hold"), s.dial()
	s.opens(2)
	if !idle.send("/").answered() {
		t.Fatal("no answer")
	}
	third := s.dial().send("/")
	if !third.answered() {
		t.Fatal("the third is not let in")
	}
	if _, err := idle.reader.Peek(1); err != io.EOF {
		t.Errorf("the idle one: %v", err)
	}
	fourth := s.dial().send("/hold") // in the place of the third
	if _, err := third.reader.Peek(1); err != io.EOF {
		t.Errorf("the third: %v", err)
	}
	fifth := s.dial().send("/")
	if !fifth.silent() {
		t.Error("the fifth is let in, or refused")
	}
	if n := s.limit.Open(); n != 2 {
		t.Errorf("%d are open", n)
	}
	s.release()
	for name, c := range map[string]*client{"busy": busy, "fourth": fourth, "fifth": fifth} {
		if !c.answered() {
			t.Errorf("%s: no answer", name)
		}
	}
}

func TestOneWithoutARequestMakesWayAfterItsTime(t *testing.T) {
	for _, tt := range []struct {
		grace time.Duration
		in    bool
	}{{0, true}, {50 * time.Millisecond, true}, {time.Hour, false}} {
		s := newServer(t, 2, tt.grace, false)
		bare, half := s.dial(), s.dial()
		_, _ = io.WriteString(half, "GET / HTTP/1.1\r\nHo")
		s.opens(2)
		began := time.Now()
		if got := !s.dial().send("/").silent(); got != tt.in {
			t.Errorf("grace %v: let in: %t", tt.grace, got)
		}
		if tt.in {
			if _, err := bare.reader.Peek(1); err != io.EOF {
				t.Errorf("grace %v: the one without a request: %v", tt.grace, err)
			}
			if elapsed := time.Since(began); elapsed < tt.grace-10*time.Millisecond {
				t.Errorf("grace %v: let in after %v", tt.grace, elapsed)
			}
		}
	}
}

func TestItKnowsConnectionsOfTLS(t *testing.T) {
	s := newServer(t, 1, time.Hour, true)
	transport := func() *http.Client {
		c := httptest.NewTLSServer(nil) // for its client's certificates
		c.Close()
		return c.Client()
	}
	for range 3 { // each has a connection of its own, which stays idle
		response, err := transport().Get("https://" + s.addr + "/")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
	}
}

func TestClosingItEndsTheWait(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	limit := connlimit.New(inner, 1, time.Hour)
	accepted := make(chan error, 2)
	for range 2 {
		conn, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	first, err := limit.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	go func() {
		_, err := limit.Accept()
		accepted <- err
	}()
	_ = limit.Close()
	if err := <-accepted; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept returned %v", err)
	}
	_ = first.Close()
	_ = first.Close() // counted once
	if n := limit.Open(); n != 0 {
		t.Errorf("%d are open", n)
	}
}

func TestAnAnswerBeforeTheEndOfTheRequestArrives(t *testing.T) {
	s := newServer(t, 1, time.Hour, false)
	c := s.dial()
	_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\n"+strings.Repeat("x", 1<<20))
	if !c.answered() {
		t.Error("no answer")
	}
}
