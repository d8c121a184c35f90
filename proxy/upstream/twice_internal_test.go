package upstream

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"hubspot-auth-proxy/tokens/testkit"
)

// preempted is a connection whose writer is delayed after the system has accepted the
// bytes of a POST, as when the goroutine is preempted.
type preempted struct {
	net.Conn
	answered chan struct{} // closed when the writer may go on
}

func (p preempted) Write(b []byte) (int, error) {
	n, err := p.Conn.Write(b)
	if strings.HasPrefix(string(b), http.MethodPost) {
		<-p.answered
	}
	return n, err
}

func TestAPostThatHubSpotHasReadIsNotSentAgain(t *testing.T) {
	answered := make(chan struct{})
	var posts atomic.Int64
	address := testkit.Serve(t, func(conn net.Conn) {
		for from := bufio.NewReader(conn); ; {
			request, err := http.ReadRequest(from)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, request.Body)
			if request.Method == http.MethodPost {
				if posts.Add(1) == 1 {
					_ = conn.Close()
					close(answered)
				}
				return
			}
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	})
	for range 100 {
		posts.Store(0)
		answered = make(chan struct{})
		d := newDirect(Config{URL: &url.URL{Scheme: "http", Host: address}})
		d.connect = func(context.Context) (*conn, error) {
			c, err := net.Dial("tcp", address)
			if err != nil {
				return nil, err
			}
			raw := newRawConn(c, false)
			raw.Conn = preempted{c, answered}
			return newConn(raw, raw), nil
		}
		u := &url.URL{Scheme: "http", Host: address, Path: "/"}
		if _, err := d.roundTrip((&http.Request{Method: "GET", URL: u}).WithContext(t.Context())); err != nil {
			t.Fatal(err)
		}
		body := func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("a")), nil }
		first, _ := body()
		_, err := d.roundTrip((&http.Request{Method: "POST", URL: u, Body: first, GetBody: body, ContentLength: 1}).WithContext(t.Context()))
		if n := posts.Load(); n != 1 || err == nil {
			t.Fatalf("HubSpot has received the POST %d times, %v", n, err)
		}
		d.pool.close()
	}
}
