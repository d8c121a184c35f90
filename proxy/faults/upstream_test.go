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
	"time"
)

const (
	ok     = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 10\r\n\r\n0123456789"
	last   = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 10\r\n\r\n0123456789"
	chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n"
)

func upstreamFaults(t *testing.T) []fault {
	s := newStage(t, "UPSTREAM_TIMEOUT=3s")
	u := newRaw(s)
	s.startTwo()
	t.Cleanup(s.wantNothingLost)

	const unreachable, broken = "502 `UPSTREAM_UNREACHABLE`", "a broken transfer"
	sends := func(answer string) script {
		return func(conn *net.TCPConn, r *http.Request) bool {
			drain(r)
			_, _ = io.WriteString(conn, answer)
			return false
		}
	}
	resets := func(answer string) script {
		return func(conn *net.TCPConn, r *http.Request) bool {
			drain(r)
			_, _ = io.WriteString(conn, answer)
			reset(conn)
			return false
		}
	}
	each := func(what, kind string, do script) fault {
		return fault{what, func(t *testing.T) outcome { return s.tryScript(t, u, kind, do) }}
	}
	return []fault{
		each("HubSpot resets the connection before it reads the body", unreachable, func(conn *net.TCPConn, _ *http.Request) bool {
			reset(conn)
			return false
		}),
		each("… before its header", unreachable, resets("")),
		each("… in the middle of its header", unreachable, resets(ok[:30])),
		each("… after its header", broken, resets(ok[:len(ok)-10])),
		each("… in the middle of its body", broken, resets(ok[:len(ok)-5])),
		each("… in the middle of a chunked body", broken, resets(chunks)),
		each("… after its body", "200", resets(last)),
		each("HubSpot answers byte by byte", "200", byteByByte),
		each("HubSpot does not answer within `UPSTREAM_TIMEOUT`", "504 `UPSTREAM_TIMEOUT`", func(conn *net.TCPConn, r *http.Request) bool {
			drain(r)
			_, _ = conn.Read(make([]byte, 1)) // until the proxy closes the connection
			return false
		}),
		each("HubSpot sends an invalid status line", unreachable, sends("HTTP/1.1 two hundred\r\n\r\n")),
		each("… an invalid header line", unreachable, sends("HTTP/1.1 200 OK\r\nhello\r\n\r\n")),
		each("… a header of 2 MB", unreachable, sends("HTTP/1.1 200 OK\r\nX-Long: "+strings.Repeat("x", 2<<20)+"\r\n\r\n")),
		each("… two lengths", unreachable, sends("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 10\r\n\r\n0123456789")),
		each("… a chunk without a length", broken, sends(chunks+"zz\r\n01234\r\n")),
		each("… less than its Content-Length", broken, sends(ok[:len(ok)-5])),
		{"… more than its Content-Length", func(t *testing.T) outcome { return trySurplus(t, "surplus") }},
		{"… two answers to one request", func(t *testing.T) outcome { return trySurplus(t, ok) }},
		{"HubSpot closes an idle connection as a request arrives on it", tryIdle},
	}
}

// byteByByte sends each byte of an answer on its own.
func byteByByte(conn *net.TCPConn, r *http.Request) bool {
	drain(r)
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	for i := range last {
		_, _ = io.WriteString(conn, last[i:i+1])
		<-ticker.C
	}
	return false
}

// tryScript sends a request with each method to each replica. It checks that HubSpot
// receives each request once, and that all results are of the kind.
func (s *stage) tryScript(t *testing.T, u *raw, kind string, do script) outcome {
	target := u.answer(name(t), do)
	results := make([]result, len(s.replicas)*len(methods))
	var calling sync.WaitGroup
	for i := range results {
		calling.Go(func() {
			r, method := s.replicas[i/len(methods)], methods[i%len(methods)]
			results[i] = r.call(method, target(portals[i%len(portals)], fmt.Sprint(i)))
		})
	}
	calling.Wait()
	o := outcome{client: wantKinds(t, results, kind), hubspot: "each request once", recovery: s.wantServedAtOnce(t)}
	for _, r := range results {
		if n := s.seen.times(r.method, r.sent()); n != 1 {
			t.Errorf("%s %s was sent to HubSpot %d times", r.method, r.sent(), n)
		}
		if r.served() && r.body != "0123456789" {
			t.Errorf("the answer is %q", r.body)
		}
	}
	return o
}

// name returns the test's name as a path segment.
func name(t *testing.T) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' {
			return r
		}
		return -1
	}, t.Name())
}

// trySurplus lets HubSpot send surplus bytes after each answer, on connections that stay
// open. No client may get those bytes.
func trySurplus(t *testing.T, surplus string) outcome {
	s := newStage(t)
	u := newRaw(s)
	s.startTwo()
	target := u.answer("surplus", func(conn *net.TCPConn, r *http.Request) bool {
		drain(r)
		_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s%s", len(r.URL.Path), r.URL.Path, surplus)
		return true
	})
	var mu sync.Mutex
	var results []result
	var calling sync.WaitGroup
	for i, r := range s.replicas {
		for j, portal := range portals {
			calling.Go(func() {
				for k := range 100 {
					got := r.call(methods[k%len(methods)], target(portal, fmt.Sprintf("%d-%d-%d", i, j, k)))
					mu.Lock()
					results = append(results, got)
					mu.Unlock()
				}
			})
		}
	}
	calling.Wait()
	o := outcome{client: "200, with the first answer", hubspot: "each request once", recovery: s.wantServedAtOnce(t)}
	wantKinds(t, results, "200")
	for _, r := range results {
		if r.served() && r.body != r.sent() {
			t.Errorf("%s got the answer %q", r.sent(), r.body)
		}
		if n := s.seen.times(r.method, r.sent()); n != 1 {
			t.Errorf("%s %s was sent to HubSpot %d times", r.method, r.sent(), n)
		}
	}
	return o
}

// tryIdle lets HubSpot close each connection when it has read the second request.
func tryIdle(t *testing.T) outcome {
	s := newStage(t)
	u := newRaw(s)
	s.startTwo()
	var mu sync.Mutex
	used := make(map[net.Conn]bool)
	target := u.answer("idle", func(conn *net.TCPConn, r *http.Request) bool {
		drain(r)
		mu.Lock()
		defer mu.Unlock()
		if used[conn] {
			return false
		}
		used[conn] = true
		_, _ = io.WriteString(conn, ok)
		return true
	})
	var gets, writes []result
	for i, r := range s.replicas {
		for _, method := range methods {
			first := r.call("GET", target(static, fmt.Sprintf("%d-before-%s", i, method)))
			if !first.served() {
				t.Errorf("on a new connection: %s", first.kind())
			}
			got := r.call(method, target(static, fmt.Sprint(i)))
			if method == "GET" {
				gets = append(gets, got)
			} else {
				writes = append(writes, got)
			}
		}
	}
	o := outcome{
		client:  wantKinds(t, gets, "200") + " for a GET, " + wantKinds(t, writes, "502 `UPSTREAM_UNREACHABLE`") + " for other methods",
		hubspot: "a GET twice, other requests once", recovery: s.wantServedAtOnce(t),
	}
	for _, r := range append(gets, writes...) {
		want := map[bool]int{true: 2, false: 1}[r.method == "GET"]
		if n := s.seen.times(r.method, r.sent()); n != want {
			t.Errorf("%s %s was sent to HubSpot %d times", r.method, r.sent(), n)
		}
	}
	return o
}

func readAnswer(conn net.Conn) (*http.Response, error) {
	return http.ReadResponse(bufio.NewReader(conn), nil)
}
