package main

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/testkit"
)

// strayUpstream answers one request, and sends more bytes when more is closed. Then it waits until
// the proxy closes the connection.
func strayUpstream(t *testing.T, more <-chan struct{}) (url string, closed <-chan struct{}) {
	t.Helper()
	done := make(chan struct{})
	address := testkit.Serve(t, func(conn net.Conn) {
		defer close(done)
		reader := bufio.NewReader(conn)
		if _, err := http.ReadRequest(reader); err != nil {
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
		<-more
		_, _ = io.WriteString(conn, "Bearer "+hubspottest.Canary)
		_, _ = io.Copy(io.Discard, reader)
	})
	return "http://" + address, done
}

func TestUnsolicitedAnswersAreNotPrinted(t *testing.T) {
	t.Parallel()
	more := make(chan struct{})
	url, closed := strayUpstream(t, more)
	p := launch(t, "serve", "UPSTREAM_URL="+url, "HUBSPOT_ACCESS_TOKEN="+hubspottest.Canary, "LOG_LEVEL=debug")
	if status, body := get(t, "http://"+p.address()+"/a"); status != http.StatusOK || body != "hi" {
		t.Fatalf("status %d, %q", status, body)
	}
	close(more)
	<-closed
	p.terminate()
	if status := p.exit(); status != 0 {
		t.Errorf("exit status %d", status)
	}
	if printed := p.stdout.String() + p.stderr.String(); strings.Contains(printed, hubspottest.Canary) {
		t.Errorf("it is printed:\n%s", printed)
	}
}
