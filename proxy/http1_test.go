package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"hubspot-auth-proxy/proxy"
	"hubspot-auth-proxy/tokens/testkit"
)

// readHead reads the head of a request.
func readHead(from *bufio.Reader) (string, error) {
	var head strings.Builder
	for !strings.HasSuffix(head.String(), "\r\n\r\n") {
		line, err := from.ReadString('\n')
		head.WriteString(line)
		if err != nil {
			return "", err
		}
	}
	return head.String(), nil
}

func TestTheAnswerToABodyThatIsNotWantedComesWhole(t *testing.T) {
	begun := make(chan struct{})
	set, _ := byHand(t, func(_ int64, conn net.Conn, from *bufio.Reader) {
		if _, err := readHead(from); err != nil {
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 413 Too Large\r\nContent-Length: 10\r\n\r\nhello")
		<-begun
		_, _ = io.WriteString(conn, "world")
		_, _ = io.Copy(io.Discard, from)
	})
	for range 20 {
		r := start(t, setup{proxy: set})
		r.connect(portalID)
		conn := r.raw("POST /a HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		first := make([]byte, 5)
		if _, err := io.ReadFull(response.Body, first); err != nil {
			t.Fatal(err)
		}
		begun <- struct{}{}
		if rest, err := io.ReadAll(response.Body); err != nil || string(first)+string(rest) != "helloworld" {
			t.Errorf("%q and %q, %v", first, rest, err)
		}
	}
}

func TestAConnectionThatHasSwitchedProtocolsIsNotUsedAgain(t *testing.T) {
	set, connections := byHand(t, func(_ int64, conn net.Conn, from *bufio.Reader) {
		for {
			head, err := readHead(from)
			if err != nil {
				return
			}
			answer := "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
			if strings.HasPrefix(head, "GET /switch") {
				answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"
			}
			_, _ = io.WriteString(conn, answer)
		}
	})
	r := start(t, setup{proxy: set})
	r.connect(portalID)
	r.call("GET", "/switch", nil).want(t, 502, "1")
	r.call("GET", "/a", nil).want(t, 200, "1")
	if n := connections.Load(); n != 2 {
		t.Errorf("%d connections", n)
	}
}

// HubSpot closes a connection while a client has sent no byte of its body yet:
// nothing is lost, whatever may be kept of bodies.
func TestASlowBodyGoesOnOnAnotherConnection(t *testing.T) {
	for _, limit := range []int64{0, 5, 1 << 20} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			leave, left := make(chan struct{}), make(chan struct{})
			set, connections := byHand(t, func(n int64, conn net.Conn, from *bufio.Reader) {
				for i := 0; ; i++ {
					if n == 1 && i == 1 {
						<-leave
						_ = conn.Close()
						close(left)
						return
					}
					request, err := http.ReadRequest(from)
					if err != nil {
						return
					}
					body, _ := io.ReadAll(request.Body)
					_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
				}
			})
			r := start(t, setup{proxy: func(o *proxy.Options) { set(o); o.RetryBodyLimit = limit }})
			r.connect(portalID)
			r.call("GET", "/a", nil).want(t, 200, "1")
			conn := r.raw("POST /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n")
			testkit.Eventually(t, "the request is under way", func() bool { return r.proxy.UnderWay() == 1 })
			close(leave)
			<-left
			testkit.Eventually(t, "another connection", func() bool { return connections.Load() == 2 })
			_, _ = io.WriteString(conn, "0123456789")
			response, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			if body, _ := io.ReadAll(response.Body); response.StatusCode != http.StatusOK || string(body) != "0123456789" {
				t.Errorf("status %d %s", response.StatusCode, body)
			}
		})
	}
}
