package proxy_test

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Who sends a header slowly is cut off, and keeps nobody waiting until then.
func TestSlowHeadersEndAndNobodyWaitsForThem(t *testing.T) {
	r := startKinds(t, setup{})
	server := r.proxy.Server()
	if server.ReadHeaderTimeout <= 0 || server.ReadHeaderTimeout > time.Minute || server.IdleTimeout <= 0 || server.MaxHeaderBytes != 128<<10 {
		t.Errorf("a header may take %v and %d bytes, and a connection be idle for %v", server.ReadHeaderTimeout, server.MaxHeaderBytes, server.IdleTimeout)
	}
	if server.ReadTimeout != 0 || server.WriteTimeout != 0 {
		t.Errorf("a body has only %v one way, %v the other", server.ReadTimeout, server.WriteTimeout)
	}
	server.ReadHeaderTimeout = 300 * time.Millisecond
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	r.addr = listener.Addr().String()

	var slow []net.Conn
	for i := range 200 {
		slow = append(slow, r.raw([]string{"", "G", "GET /a HTTP/1.1\r\n", "GET /a HTTP/1.1\r\nHost: localhost\r\nX-A: "}[i%4]))
	}
	for range 20 {
		if got := r.answerTo(head()); got.StatusCode != http.StatusOK {
			t.Errorf("status %d beside them", got.StatusCode)
		}
	}
	for i, conn := range slow {
		go drip(conn)
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		if answer, err := io.ReadAll(conn); isTimeout(err) || strings.Contains(string(answer), "200 OK") {
			t.Fatalf("connection %d goes on: %q, %v", i, answer, err)
		}
	}
	if n := r.hub.Requests(); n != 20 {
		t.Errorf("%d requests reached HubSpot", n)
	}
}

// drip sends a byte now and then until the connection ends.
func drip(conn net.Conn) {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for range ticker.C {
		if _, err := conn.Write([]byte("a")); err != nil {
			return
		}
	}
}

func isTimeout(err error) bool {
	timeout, is := err.(net.Error)
	return is && timeout.Timeout()
}

// A body may come as slowly as it likes: nobody waits for it but who sends it.
func TestNobodyWaitsForSlowBodies(t *testing.T) {
	r := startKinds(t, setup{})
	var slow []net.Conn
	for i := range 200 {
		framing := []string{"Content-Length: 3\r\n\r\na", "Transfer-Encoding: chunked\r\n\r\n3\r\na"}[i%2]
		slow = append(slow, r.raw("POST /a HTTP/1.1\r\nHost: localhost\r\n"+framing))
	}
	within(t, r.hub, func() bool { return r.hub.Requests() == len(slow) })
	for range 20 {
		began := time.Now()
		got := r.answerTo(head())
		if took := time.Since(began); got.StatusCode != http.StatusOK || took > 5*time.Second {
			t.Errorf("status %d after %v beside them", got.StatusCode, took)
		}
	}
	for i, conn := range slow {
		_, _ = io.WriteString(conn, []string{"bc", "bc\r\n0\r\n\r\n"}[i%2])
	}
	for i, conn := range slow {
		if got := receive(t, reading(conn), http.MethodPost); got.StatusCode != http.StatusOK || !strings.Contains(got.text, portalID) {
			t.Errorf("body %d: status %d %s", i, got.StatusCode, got.text)
		}
	}
}
