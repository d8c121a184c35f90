package proxy_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"

	"hubspot-auth-proxy/proxy"
	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspottest"
)

// dying is an upstream that answers the first request of a connection if kept
// is set, and reads the next one and closes the connection without an answer.
func dying(t *testing.T, kept bool) (set func(*proxy.Options), seen *atomic.Int64) {
	t.Helper()
	seen = new(atomic.Int64)
	set, _ = byHand(t, func(_ int64, conn net.Conn, from *bufio.Reader) {
		for {
			request, err := http.ReadRequest(from)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, request.Body)
			if request.URL.Path != "/first" || !kept {
				seen.Add(1)
				return
			}
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	})
	return set, seen
}

func TestARequestThatChangesSomethingIsNotSentAgainByTheTransport(t *testing.T) {
	for _, kept := range []bool{false, true} {
		for _, method := range []string{"POST", "PUT", "PATCH", "DELETE"} {
			for _, size := range []int{0, 10, 100_000} {
				t.Run(fmt.Sprintf("kept connection %v, %s of %d bytes", kept, method, size), func(t *testing.T) {
					set, seen := dying(t, kept)
					r := start(t, setup{proxy: set})
					r.seed(portalID, tokens.AccessToken, hubspottest.Canary+"-static")
					if kept {
						r.call("GET", "/first", nil).want(t, 200, "1")
					}
					answer := r.call(method, "/crm", bytes.NewReader(bytesOf(size, 0)),
						"Idempotency-Key", "a", "X-Idempotency-Key", "b")
					answer.want(t, 502, "1")
					if n := seen.Load(); n != 1 {
						t.Errorf("HubSpot has received it %d times", n)
					}
				})
			}
		}
	}
}
