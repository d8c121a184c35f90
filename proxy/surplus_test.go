package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"hubspot-auth-proxy/proxy"
)

// surplus is an upstream whose every answer is followed by another one that
// nobody has asked for, in the same write.
func surplus(t *testing.T, length int) (set func(*proxy.Options)) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	t.Cleanup(func() { _ = listener.Close(); serving.Wait() })
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer conn.Close()
				for from := bufio.NewReader(conn); ; {
					r, err := http.ReadRequest(from)
					if err != nil {
						return
					}
					answer := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", length) + r.URL.Path + strings.Repeat(" ", length-len(r.URL.Path))
					_, _ = io.WriteString(conn, answer+"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstray")
				}
			})
		}
	})
	address := &url.URL{Scheme: "http", Host: listener.Addr().String()}
	return func(o *proxy.Options) { o.Upstream = address }
}

// However the surplus lies in buffers: one of 4 KB ends with the answer, so that
// it is still the system's when the connection is free again.
func TestNobodyGetsWhatFollowsAnothersAnswer(t *testing.T) {
	const header = len("HTTP/1.1 200 OK\r\nContent-Length: 4055\r\n\r\n")
	for _, length := range []int{100, 4096 - header, 8192 - header} {
		r := start(t, setup{proxy: surplus(t, length)})
		r.connect(portalID)
		together(t, 4000, 16, func(i int) error {
			path := fmt.Sprintf("/request-%d", i)
			answer, err := r.exchange(r.request("GET", path, nil))
			if err != nil {
				return err
			}
			if got := strings.TrimSpace(string(answer.body)); answer.StatusCode == http.StatusOK && got != path {
				return fmt.Errorf("%s was answered %q", path, got)
			}
			return nil
		})
	}
}
