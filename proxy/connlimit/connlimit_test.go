package connlimit_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
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
	"hubspot-auth-proxy/tokens/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server answers /hold and /keep when release is closed, and the rest at once.
type server struct {
	t       *testing.T
	limit   *connlimit.Listener
	addr    string
	held    chan struct{} // receives when a request is held
	release func()
}

func newServer(t *testing.T, most int, grace, busy time.Duration, secure bool) *server {
	t.Helper()
	hold, held := make(chan struct{}), make(chan struct{}, 10)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/keep":
			connlimit.Keep(r.Context())
			held <- struct{}{}
			<-hold
		case "/hold":
			held <- struct{}{}
			<-hold
		}
		_, _ = io.WriteString(w, "ok")
	}))
	limit := connlimit.New(s.Listener, most, grace, busy)
	s.Listener, s.Config.ConnState, s.Config.ConnContext = limit, limit.ConnState, limit.ConnContext
	if secure {
		s.StartTLS()
	} else {
		s.Start()
	}
	release := sync.OnceFunc(func() { close(hold) })
	t.Cleanup(s.Close)
	t.Cleanup(release) // before the server, which waits for them
	return &server{t: t, limit: limit, addr: s.Listener.Addr().String(), held: held, release: release}
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

// dialTLS is dial, with TLS if secure is true.
func (s *server) dialTLS(secure bool) *client {
	s.t.Helper()
	c := s.dial()
	if secure {
		c.Conn = tls.Client(c.Conn, &tls.Config{InsecureSkipVerify: true})
		c.reader = bufio.NewReader(c.Conn)
	}
	return c
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
	testkit.Eventually(s.t, fmt.Sprintf("%d are open", n), func() bool { return s.limit.Open() == n })
}

func TestAnIdleConnectionMakesWayAndOneInUseDoesNot(t *testing.T) {
	s := newServer(t, 2, time.Hour, 0, false)
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

func TestEachOfManyConnectionsGetsTheRoomOfAnIdleOne(t *testing.T) {
	s := newServer(t, 2, time.Hour, time.Hour, false)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 50 {
				if !s.dial().send("/").answered() {
					t.Error("a connection is not let in")
				}
			}
		})
	}
	all.Wait()
}

func TestOneWithoutARequestMakesWayAfterItsTime(t *testing.T) {
	for _, tt := range []struct {
		grace time.Duration
		in    bool
	}{{0, true}, {50 * time.Millisecond, true}, {time.Hour, false}} {
		s := newServer(t, 2, tt.grace, time.Hour, false)
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

func TestARequestThatDoesNotEndMakesWayAfterItsTimeUnlessItIsKept(t *testing.T) {
	const busy = 50 * time.Millisecond
	for _, secure := range []bool{false, true} {
		s := newServer(t, 2, time.Hour, busy, secure)
		kept, stuck := s.dialTLS(secure).send("/keep"), s.dialTLS(secure).send("/hold")
		<-s.held
		<-s.held
		began := time.Now()
		if !s.dialTLS(secure).send("/").answered() {
			t.Fatalf("TLS %t: the third is not let in", secure)
		}
		if elapsed := time.Since(began); elapsed > 5*time.Second {
			t.Errorf("TLS %t: let in after %v", secure, elapsed)
		}
		if _, err := stuck.reader.Peek(1); err == nil {
			t.Errorf("TLS %t: the stuck one has an answer", secure)
		}
		for range 3 { // the idle one makes way, and never the kept one
			if !s.dialTLS(secure).send("/").answered() {
				t.Fatalf("TLS %t: another one is not let in", secure)
			}
		}
		s.release()
		if !kept.answered() {
			t.Errorf("TLS %t: the kept one has no answer", secure)
		}
	}
}

func TestARequestHasItsTime(t *testing.T) {
	const busy = 300 * time.Millisecond
	s := newServer(t, 1, time.Hour, busy, false)
	began := time.Now()
	_ = s.dial().send("/hold")
	s.opens(1)
	if !s.dial().send("/").answered() {
		t.Fatal("the second is not let in")
	}
	if elapsed := time.Since(began); elapsed < busy {
		t.Errorf("the first had %v", elapsed)
	}
}

func TestARequestOfALongConnectionHasItsTimeToo(t *testing.T) {
	s := newServer(t, 1, time.Hour, time.Hour, false)
	c := s.dial()
	for range 3 {
		if !c.send("/").answered() {
			t.Fatal("no answer")
		}
	}
	c.send("/keep")
	<-s.held
	second := s.dial().send("/")
	if !second.silent() {
		t.Error("the second is let in")
	}
	s.release()
	if !c.answered() || !second.answered() {
		t.Error("no answer")
	}
}

func TestItKnowsConnectionsOfTLS(t *testing.T) {
	s := newServer(t, 1, time.Hour, time.Hour, true)
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
	limit := connlimit.New(inner, 1, time.Hour, time.Hour)
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
	s := newServer(t, 1, time.Hour, time.Hour, false)
	c := s.dial()
	_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\n"+strings.Repeat("x", 1<<20))
	if !c.answered() {
		t.Error("no answer")
	}
}
