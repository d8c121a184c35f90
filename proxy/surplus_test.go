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

// How surplusTLS sends what nobody has asked for.
const (
	oneRecord  = iota // with the answer
	twoRecords        // in one of its own
	halfRecord        // of which the second half comes when something else is sent
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
			const stray = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstray"
			if how == oneRecord {
				_, _ = io.WriteString(conn, answer+stray)
				continue
			}
			_, _ = io.WriteString(conn, answer)
			conn.(*tls.Conn).NetConn().(*halvingConn).halve = how == halfRecord
			_, _ = io.WriteString(conn, stray)
		}
	}))
	server.Listener = halvingListener{server.Listener}
	server.StartTLS()
	t.Cleanup(server.Close)
	address, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	trust := server.Client().Transport.(*http.Transport).TLSClientConfig
	return func(o *proxy.Options) { o.Upstream, o.UpstreamTLS = address, trust }
}

type halvingListener struct{ net.Listener }

func (l halvingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	return &halvingConn{Conn: conn}, err
}

// halvingConn keeps back the second half of what is written next, if halve is
// set, until something else is written.
type halvingConn struct {
	net.Conn
	halve bool
	kept  []byte
}

func (c *halvingConn) Write(p []byte) (int, error) {
	sent := append(c.kept, p...)
	c.kept = nil
	if c.halve {
		c.halve = false
		sent, c.kept = sent[:len(sent)/2], slices.Clone(sent[len(sent)/2:])
	}
	_, err := c.Conn.Write(sent)
	return len(p), err
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
		together(t, 1500, 16, func(i int) error {
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
