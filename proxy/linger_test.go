package proxy_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"hubspot-auth-proxy/proxy"
)

// answeredEarly are upstreams that answer when they have the beginning of a body: with the whole
// answer, or with a part of it, after which they close the connection.
var answeredEarly = map[string]func(t *testing.T) func(*proxy.Options){
	"the whole answer": func(t *testing.T) func(*proxy.Options) {
		set, _ := byHand(t, func(_ int64, conn net.Conn, from *bufio.Reader) {
			answerEarly(conn, from, "HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
			_, _ = io.Copy(io.Discard, from)
		})
		return set
	},
	"a part of the answer": func(t *testing.T) func(*proxy.Options) {
		set, _ := byHand(t, func(_ int64, conn net.Conn, from *bufio.Reader) {
			answerEarly(conn, from, "HTTP/1.1 413 Too Large\r\nContent-Length: 1000\r\n\r\nbig")
		})
		return set
	},
	"the whole answer by HTTP/2": func(t *testing.T) func(*proxy.Options) {
		return byHTTP2(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.ReadFull(r.Body, make([]byte, 3))
			w.Header().Set("Content-Length", "3")
			w.WriteHeader(http.StatusRequestEntityTooLarge)
			_, _ = io.WriteString(w, "big")
		})
	},
}

func answerEarly(conn net.Conn, from *bufio.Reader, answer string) {
	if request, err := http.ReadRequest(from); err == nil {
		_, _ = io.ReadFull(request.Body, make([]byte, 3))
		_, _ = io.WriteString(conn, answer)
	}
}

// The proxy reads the body for the upstream when the answer comes. A client that neither sends
// the rest nor leaves must not hold its connection, and the file descriptor of the proxy.
func TestAClientThatKeepsItsBodyAfterAnAnswerLosesItsConnection(t *testing.T) {
	for name, set := range answeredEarly {
		for _, body := range []string{"Content-Length: 100\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"} {
			t.Run(name+", "+strings.SplitN(body, ":", 2)[0], func(t *testing.T) {
				t.Parallel()
				r := startKinds(t, setup{proxy: set(t)})
				r.proxy.SetLingerTime(300 * time.Millisecond)
				conn := r.raw("POST /a HTTP/1.1\r\nHost: localhost\r\n" + body)
				got, err := io.ReadAll(reading(conn))
				if errors.Is(err, os.ErrDeadlineExceeded) || !strings.HasPrefix(string(got), "HTTP/1.1 413 ") || !strings.HasSuffix(string(got), "\r\n\r\nbig") {
					t.Errorf("%v: %q", err, got)
				}
				if line := r.accessLog(1)[0]; line.Status != 413 || line.Complete == strings.Contains(name, "part") {
					t.Errorf("the log says %+v", line)
				}
			})
		}
	}
}
