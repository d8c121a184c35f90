package proxy_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"hubspot-auth-proxy/proxy"
)

// surplus is an upstream whose every answer is followed by another one that
// nobody has asked for, in the same write.
func surplus(t *testing.T, length int) (set func(*proxy.Options)) {
	t.Helper()
	set, _ = byHand(t, func(_ int64, conn net.Conn, from *bufio.Reader) {
		for {
			r, err := http.ReadRequest(from)
			if err != nil {
				return
			}
			answer := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", length) + r.URL.Path + strings.Repeat(" ", length-len(r.URL.Path))
			_, _ = io.WriteString(conn, answer+strayAnswer)
		}
	})
	return set
}

// strayAnswer is an answer that nobody has asked for.
const strayAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstray"

// How surplusTLS sends what nobody has asked for.
const (
	oneRecord  = iota // with the answer
	twoRecords        // in one of its own
	halfRecord        // of which the second half comes with the next answer
)

// surplusTLS is surplus over TLS.
func surplusTLS(t *testing.T, how int) func(*proxy.Options) {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		for from := buffered.Reader; err == nil; r, err = http.ReadRequest(from) {
			answer := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(r.URL.Path), r.URL.Path)
			below := conn.(*tls.Conn).NetConn().(*holdingConn)
			below.hold()
			if how == oneRecord {
				_, _ = io.WriteString(conn, answer+strayAnswer)
			} else {
				_, _ = io.WriteString(conn, answer)
				_, _ = io.WriteString(conn, strayAnswer)
			}
			back := 0
			if how == halfRecord {
				back = len(strayAnswer) / 2
			}
			below.send(back)
		}
	}))
	server.Listener = holdingListener{server.Listener}
	server.StartTLS()
	t.Cleanup(server.Close)
	address, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	trust := server.Client().Transport.(*http.Transport).TLSClientConfig
	return func(o *proxy.Options) { o.Upstream, o.UpstreamTLS = address, trust }
}

type holdingListener struct{ net.Listener }

func (l holdingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	return &holdingConn{Conn: conn}, err
}

// holdingConn can hold what is written, to be sent in one piece.
type holdingConn struct {
	net.Conn
	holds bool
	held  []byte
}

func (c *holdingConn) Write(p []byte) (int, error) {
	if !c.holds {
		return c.Conn.Write(p)
	}
	c.held = append(c.held, p...)
	return len(p), nil
}

func (c *holdingConn) hold() { c.holds = true }

// send sends what is held, but for the last bytes, which stay with what follows.
func (c *holdingConn) send(back int) {
	n := len(c.held) - back
	_, _ = c.Conn.Write(c.held[:n])
	c.held = slices.Clone(c.held[n:])
}

// However the surplus lies in buffers: one of 4 KB ends with the answer, so that
// it is still the system's when the connection is free again.
func TestNobodyGetsWhatFollowsAnothersAnswer(t *testing.T) {
	const header = len("HTTP/1.1 200 OK\r\nContent-Length: 4055\r\n\r\n")
	for name, set := range map[string]func(*proxy.Options){
		"a short answer": surplus(t, 100), "one of 4 KB": surplus(t, 4096-header), "one of 8 KB": surplus(t, 8192-header),
		"TLS, one record": surplusTLS(t, oneRecord), "TLS, two records": surplusTLS(t, twoRecords), "TLS, half a record": surplusTLS(t, halfRecord),
	} {
		r := start(t, setup{proxy: set})
		r.connect(portalID)
		together(t, volume(3000, 150), 16, func(i int) error {
			path := fmt.Sprintf("/request-%d", i)
			answer, err := r.exchange(r.request("GET", path, nil))
			if err != nil {
				return err
			}
			if got := strings.TrimSpace(string(answer.body)); answer.StatusCode == http.StatusOK && got != path {
				return fmt.Errorf("%s: %s was answered %q", name, path, got)
			}
			return nil
		})
	}
}
