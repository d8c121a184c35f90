package upstream_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"hubspot-auth-proxy/proxy/upstream"
)

func TestAnAnswerThatDoesNotComeInTimeIsErrTimeout(t *testing.T) {
	for name, config := range ways {
		t.Run(name, func(t *testing.T) {
			config.Timeout = 50 * time.Millisecond
			for _, begun := range []string{
				"", "H", "HTTP/1.1 20", "HTTP/1.1 200 OK", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nX-A", "HTTP/1.1 200 OK\r\nX-A: b\r\n",
				"HTTP/1.1 103 Early Hints\r\nX-A", "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 2",
			} {
				s := start(t, config, func(_ int64, conn net.Conn, from *bufio.Reader) {
					if _, err := readHead(from); err == nil {
						_, _ = io.WriteString(conn, begun)
						_, _ = io.Copy(io.Discard, from)
					}
				})
				for _, body := range []string{"", "abc"} {
					if _, _, err := s.send(s.request(t, "POST", "/a", strings.NewReader(body))); !errors.Is(err, upstream.ErrTimeout) {
						t.Errorf("%q after %q: %v", body, begun, err)
					}
				}
			}
		})
	}
}

func TestARequestEndsWithItsContext(t *testing.T) {
	overEachWay(t, func(_ int64, _ net.Conn, from *bufio.Reader) { _, _ = io.Copy(io.Discard, from) }, func(t *testing.T, s *site) {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if _, _, err := s.send(s.request(t, "GET", "/a", nil).WithContext(ctx)); !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}
