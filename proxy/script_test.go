package proxy_test

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"hubspot-auth-proxy/proxy"
	"hubspot-auth-proxy/tokens/testkit"
)

// scripted is an upstream that answers every request with the same bytes, and
// keeps the bytes of each. It is for what the fake HubSpot does not do.
type scripted struct {
	url  *url.URL
	sent chan string // the requests, each as it came
}

// script starts one; it ends with the test.
func script(t *testing.T, answer string) *scripted {
	t.Helper()
	s := &scripted{sent: make(chan string, 64)}
	s.url = &url.URL{Scheme: "http", Host: testkit.Serve(t, func(conn net.Conn) { s.serve(conn, answer) })}
	return s
}

// serve answers the one request of a connection.
func (s *scripted) serve(conn net.Conn, answer string) {
	var raw bytes.Buffer
	request, err := http.ReadRequest(bufio.NewReader(io.TeeReader(conn, &raw)))
	if err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, request.Body)
	s.sent <- raw.String()
	_, _ = io.WriteString(conn, answer)
}

func (s *scripted) set(o *proxy.Options) { o.Upstream = s.url }

// request returns the bytes of the next request.
func (s *scripted) request(t *testing.T) string {
	t.Helper()
	select {
	case request := <-s.sent:
		return request
	case <-time.After(10 * time.Second):
		t.Fatal("no request came")
		return ""
	}
}

// byHand starts an upstream that serves each connection by the function, which
// gets its number, from 1 on.
func byHand(t *testing.T, serve func(n int64, conn net.Conn, from *bufio.Reader)) (set func(*proxy.Options), connections *atomic.Int64) {
	t.Helper()
	connections = new(atomic.Int64)
	address := &url.URL{Scheme: "http", Host: testkit.Serve(t, func(conn net.Conn) { serve(connections.Add(1), conn, bufio.NewReader(conn)) })}
	return func(o *proxy.Options) { o.Upstream = address }, connections
}
