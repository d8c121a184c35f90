package proxy_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"hubspot-auth-proxy/proxy"
	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/testkit"
)

// HubSpot answers 401 and is slow with the body, which says whether the
// credential has expired: nobody waits long for that, and nothing is lost.
func TestA401WhoseBodyStallsArrives(t *testing.T) {
	const begin, rest = `{"category":"EXPIRED_AUTHENTICATION",`, `"message":"and here is the rest of the answer, a while later"}`
	for _, kind := range []tokens.Kind{tokens.OAuth, tokens.AccessToken} {
		for _, framing := range []string{"Content-Length: 99\r\n\r\n" + begin, "Transfer-Encoding: chunked\r\n\r\n25\r\n" + begin + "\r\n"} {
			t.Run(string(kind)+" "+framing[:10], func(t *testing.T) {
				t.Parallel()
				more := make(chan struct{})
				set, connections := byHand(t, func(n int64, conn net.Conn, from *bufio.Reader) {
					if _, err := http.ReadRequest(from); err != nil {
						return
					}
					_, _ = io.WriteString(conn, "HTTP/1.1 401 Unauthorized\r\n"+framing)
					<-more
					if framing[0] == 'T' {
						_, _ = io.WriteString(conn, "3e\r\n"+rest+"\r\n0\r\n\r\n")
					} else {
						_, _ = io.WriteString(conn, rest)
					}
				})
				r := start(t, setup{proxy: set})
				if kind == tokens.OAuth {
					r.connect(portalID)
				} else {
					r.seed(portalID, kind, staticToken)
				}
				began := time.Now()
				response, err := r.client.Do(r.request("GET", "/a", nil))
				if err != nil {
					t.Fatal(err)
				}
				defer response.Body.Close()
				first := make([]byte, len(begin))
				if _, err := io.ReadFull(response.Body, first); err != nil || string(first) != begin || response.StatusCode != http.StatusUnauthorized {
					t.Errorf("status %d %q, %v", response.StatusCode, first, err)
				}
				if took := time.Since(began); took > 2*time.Second {
					t.Errorf("it took %v", took)
				}
				close(more)
				if text, err := io.ReadAll(response.Body); err != nil || string(text) != rest {
					t.Errorf("the rest is %q, %v", text, err)
				}
				if n := connections.Load(); n != 1 {
					t.Errorf("%d connections", n)
				}
			})
		}
	}
}

// The client need not wait for the rest either.
func TestAClientMayLeaveA401WhoseBodyStalls(t *testing.T) {
	t.Parallel()
	left := make(chan struct{})
	set, _ := byHand(t, func(_ int64, conn net.Conn, from *bufio.Reader) {
		if _, err := http.ReadRequest(from); err != nil {
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 401 Unauthorized\r\nContent-Length: 100\r\n\r\n{")
		_, _ = io.Copy(io.Discard, from)
		close(left)
	})
	r := start(t, setup{proxy: func(o *proxy.Options) { set(o) }})
	r.seed(portalID, tokens.AccessToken, staticToken)
	conn := r.raw(head())
	if _, err := http.ReadResponse(reading(conn), nil); err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	<-left
	testkit.Eventually(t, "the end of the request", func() bool { return r.proxy.UnderWay() == 0 })
}
