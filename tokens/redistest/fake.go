//go:build unix

package redistest

import (
	"bufio"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
)

// Fake starts a server that a test controls completely: for each command, the server calls
// answer and sends the result byte for byte. If the result is empty, the server closes the
// connection. answer may be called from several goroutines at once. The server is closed
// when the test ends.
func Fake(tb testing.TB, answer func(command []string) string) (addr string) {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	f := &fake{answer: answer}
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			f.serve(conn)
		}
	})
	tb.Cleanup(func() {
		_ = listener.Close()
		accepting.Wait()
		f.end()
	})
	return listener.Addr().String()
}

type fake struct {
	answer func(command []string) string

	mu    sync.Mutex
	conns []net.Conn
	work  sync.WaitGroup
}

func (f *fake) serve(conn net.Conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.conns = append(f.conns, conn)
	f.work.Go(func() {
		defer conn.Close()
		for from := bufio.NewReader(conn); ; {
			command, _, err := readCommand(from)
			if err != nil {
				return
			}
			answer := f.answer(command)
			if _, err := io.WriteString(conn, answer); err != nil || answer == "" {
				return
			}
		}
	})
}

func (f *fake) end() {
	f.mu.Lock()
	for _, conn := range f.conns {
		_ = conn.Close()
	}
	f.mu.Unlock()
	f.work.Wait()
}

// Echo returns an answer function for [Fake] that quotes each whole command in an error. The
// error is text, with %s replaced by the command. With greet, PING, INFO and the commands
// that go-redis sends on a new connection succeed.
func Echo(text string, greet bool) func(command []string) string {
	return func(command []string) string {
		switch strings.ToLower(command[0]) {
		case "hello":
			if greet {
				return "%1\r\n+proto\r\n:3\r\n"
			}
		case "auth", "client", "select", "ping", "info":
			if greet {
				return "+PONG\r\n"
			}
		}
		quoted := strings.NewReplacer("\r", " ", "\n", " ").Replace(strings.Join(command, "' '"))
		return "-" + strings.ReplaceAll(text, "%s", quoted) + "\r\n"
	}
}

// Echoes returns texts for [Echo]: errors of Redis and of proxies in front of Redis.
func Echoes() []string {
	return []string{
		"ERR unknown command '%s'",
		"ERR unknown command `%s`, with args beginning with: '%s'",
		"%s",
		"ERR %s",
		"NOPERM %s",
		"NOPERM this user has no permissions to run the '%s' command",
		"LOADING %s",
		"WRONGTYPE %s",
		"MOVED 1 %s",
	}
}
