package faults

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/testkit"
)

// disconnectTimeout limits the time until HubSpot sees that a client has disconnected.
const disconnectTimeout = 10 * time.Second

func clientFaults(t *testing.T) []fault {
	s := newStage(t)
	u := newRaw(s)
	s.startTwo()
	t.Cleanup(s.wantNothingLost)
	with := func(what string, try func(*testing.T, *stage, *raw) outcome) fault {
		return fault{what, func(t *testing.T) outcome { return try(t, s, u) }}
	}
	return []fault{
		with("a client stops sending in the middle of its header", tryStallInHeader),
		with("a client stops sending in the middle of its body, and disconnects later", tryStallInBody),
		with("a client never reads its answer, and disconnects later", tryNeverReads),
		with("a client disconnects in the middle of its header", tryLeaveInHeader),
		with("a client disconnects while it waits for its answer", tryLeaveWaiting),
		with("a client disconnects while it reads its answer", tryLeaveInAnswer),
		with("a client disconnects while the portal's token is renewed", tryLeaveInRenewal),
	}
}

// dial connects to the replica and sends the text. The connection is closed when the
// test ends.
func dial(t *testing.T, r *replica, text string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", r.Address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	return conn
}

// head returns the beginning of a request's header. The caller adds further fields and
// the blank line that ends the header.
func head(method, target string) string {
	return method + " " + target + " HTTP/1.1\r\nHost: localhost\r\n"
}

func tryStallInHeader(t *testing.T, s *stage, u *raw) outcome {
	target := u.answer("unseen", func(*net.TCPConn, *http.Request) bool { return false })
	conn := dial(t, s.replicas[0], head("POST", target(static, "1")))
	o := outcome{recovery: s.wantServedAtOnce(t), hubspot: "nothing"}
	began := time.Now()
	_ = conn.SetReadDeadline(began.Add(time.Minute))
	if answer, err := io.ReadAll(conn); err != nil || len(answer) > 0 {
		t.Errorf("the client got %q, %v", answer, err)
	}
	wantWithin(t, began, 25*time.Second)
	o.client = "the connection closed after 15 s"
	if n := s.seen.times("POST", "/fault/unseen/1"); n > 0 {
		t.Error("HubSpot has received the request")
	}
	return o
}

// reporting returns a script that runs do and closes the connection, and a channel on
// which the script sends do's error.
func reporting(do func(conn *net.TCPConn, r *http.Request) error) (script, <-chan error) {
	ended := make(chan error, 1)
	return func(conn *net.TCPConn, r *http.Request) bool {
		ended <- do(conn, r)
		return false
	}, ended
}

// wantBroken checks that the request ended with an error at HubSpot.
func wantBroken(t *testing.T, ended <-chan error) {
	t.Helper()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("for HubSpot the request ended without an error")
		}
	case <-time.After(disconnectTimeout):
		t.Error("HubSpot does not see that the client has disconnected")
	}
}

func tryStallInBody(t *testing.T, s *stage, u *raw) outcome {
	var read atomic.Int64
	do, ended := reporting(func(_ *net.TCPConn, r *http.Request) error {
		_, err := io.Copy(io.Discard, io.TeeReader(r.Body, counter{&read}))
		return err
	})
	target := u.answer("stalled", do)
	conn := dial(t, s.replicas[0], head("POST", target(static, "1"))+"Content-Length: 1000\r\n\r\n"+strings.Repeat("x", 500))
	testkit.Within(t, disconnectTimeout, "HubSpot has received what the client has sent", func() bool { return read.Load() == 500 })
	o := outcome{client: "nothing: bodies have no time limit", hubspot: "the request once, incomplete", recovery: s.wantServedAtOnce(t)}
	_ = conn.Close()
	wantBroken(t, ended)
	if n := s.seen.times("POST", "/fault/stalled/1"); n != 1 {
		t.Errorf("HubSpot has received the request %d times", n)
	}
	return o
}

// counter counts the bytes that are written to it.
type counter struct{ n *atomic.Int64 }

func (c counter) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return len(p), nil
}

// endless sends an answer that never ends, and adds the number of bytes that were
// written to taken.
func endless(taken *atomic.Int64) func(*net.TCPConn, *http.Request) error {
	return func(conn *net.TCPConn, _ *http.Request) error {
		_, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
		for data := make([]byte, 32<<10); err == nil; {
			var n int
			n, err = conn.Write(data)
			taken.Add(int64(n))
		}
		return err
	}
}

func tryNeverReads(t *testing.T, s *stage, u *raw) outcome {
	const most = 64 << 20
	var taken atomic.Int64
	do, ended := reporting(endless(&taken))
	target := u.answer("unread", do)
	memory := func() float64 { return s.replicas[0].metric("process_resident_memory_bytes", "") }
	before := memory()
	conn := dial(t, s.replicas[0], head("GET", target(static, "1"))+"\r\n")
	last, changed := int64(0), time.Now()
	testkit.Within(t, disconnectTimeout, "HubSpot cannot write any more", func() bool {
		if now := taken.Load(); now != last {
			last, changed = now, time.Now()
		}
		return last > 0 && time.Since(changed) > 200*time.Millisecond
	})
	if grown := memory() - before; taken.Load() > most || grown > most {
		t.Errorf("%d bytes were taken from HubSpot, and memory has grown by %.0f", taken.Load(), grown)
	}
	o := outcome{client: "what the sockets' buffers hold", hubspot: "its answer is not read", recovery: s.wantServedAtOnce(t)}
	_ = conn.Close()
	wantBroken(t, ended)
	return o
}

func tryLeaveInHeader(t *testing.T, s *stage, u *raw) outcome {
	target := u.answer("halfway", func(*net.TCPConn, *http.Request) bool { return false })
	for _, text := range []string{"", "POST", head("POST", target(static, "1")), head("POST", target(static, "1")) + "Content-Length: 3"} {
		_ = dial(t, s.replicas[0], text).Close()
	}
	o := outcome{client: "—", hubspot: "nothing", recovery: s.wantServedAtOnce(t)}
	if n := s.seen.times("POST", "/fault/halfway/1"); n > 0 {
		t.Error("HubSpot has received the request")
	}
	return o
}

func tryLeaveWaiting(t *testing.T, s *stage, u *raw) outcome {
	asked := make(chan struct{})
	do, ended := reporting(func(conn *net.TCPConn, r *http.Request) error {
		drain(r)
		close(asked)
		_, err := conn.Read(make([]byte, 1))
		return err
	})
	target := u.answer("waiting", do)
	conn := dial(t, s.replicas[0], head("POST", target(static, "1"))+"Content-Length: 3\r\n\r\nabc")
	<-asked
	_ = conn.Close()
	wantBroken(t, ended)
	testkit.Within(t, disconnectTimeout, "the request is counted as 499", func() bool {
		return s.replicas[0].metric("hubspot_auth_proxy_requests_total", `status="499"`) > 0
	})
	if n := s.seen.times("POST", "/fault/waiting/1"); n != 1 {
		t.Errorf("HubSpot has received the request %d times", n)
	}
	return outcome{client: "—", hubspot: "the request once, and its connection closed", recovery: s.wantServedAtOnce(t)}
}

func tryLeaveInAnswer(t *testing.T, s *stage, u *raw) outcome {
	var taken atomic.Int64
	do, ended := reporting(endless(&taken))
	target := u.answer("leaving", do)
	conn := dial(t, s.replicas[1], head("POST", target(static, "1"))+"Content-Length: 0\r\n\r\n")
	if response, err := readAnswer(conn); err != nil || response.StatusCode != 200 {
		t.Errorf("the answer does not begin: %v", err)
	}
	_ = conn.Close()
	wantBroken(t, ended)
	if n := s.seen.times("POST", "/fault/leaving/1"); n != 1 {
		t.Errorf("HubSpot has received the request %d times", n)
	}
	return outcome{client: "—", hubspot: "the request once, and its connection closed", recovery: s.wantServedAtOnce(t)}
}

func tryLeaveInRenewal(t *testing.T, s *stage, _ *raw) outcome {
	r, before := s.replicas[0], s.hub.TokenCalls(first)
	s.hub.SetToken(hubspottest.TokenBehaviour{Rotate: true, Hang: true})
	s.hub.Expire(first)
	conn := dial(t, r, head("POST", objectOf(first, "disconnects"))+"Content-Length: 2\r\n\r\n{}")
	testkit.Within(t, disconnectTimeout, "the token endpoint is called", func() bool { return s.hub.TokenCalls(first) > before })
	_ = conn.Close()
	s.hub.SetToken(hubspottest.TokenBehaviour{Rotate: true})
	for i, other := range s.replicas {
		if got := other.call("POST", objectOf(first, fmt.Sprintf("stays-%d", i))); !got.served() {
			t.Errorf("the next request: %s %s", got.kind(), got.body)
		}
	}
	if calls := s.hub.TokenCalls(first) - before; calls != 1 {
		t.Errorf("%d token calls", calls)
	}
	return outcome{client: "—", hubspot: "one token call, and the request, which HubSpot answered 401", recovery: "at once"}
}
