//go:build unix

// Package redistest runs a real redis-server for a test, in the manner of
// net/http/httptest: on a loopback port of its own, with nothing kept on disk
// unless asked for. The server can be killed, started again and paused, and
// never outlives the test.
package redistest

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"hubspot-auth-proxy/tokens/store"
	"hubspot-auth-proxy/tokens/testkit"
)

// startTime is how long a server may take until it answers.
const startTime = 10 * time.Second

// An Option changes how a server is started.
type Option func(*Server)

// Persist makes the server write every change to disk before it answers, so
// that it has its data again after [Server.Restart].
func Persist() Option {
	return With("--appendonly", "yes", "--appendfsync", "always")
}

// With gives the server further arguments. In each of them %PORT% stands for
// the server's port, and %FREE% for another free one.
func With(args ...string) Option {
	return func(s *Server) { s.args = append(s.args, args...) }
}

// Sentinel makes the server a Redis Sentinel with that configuration.
func Sentinel(lines ...string) Option {
	return func(s *Server) { s.sentinel = strings.Join(lines, "\n") + "\n" }
}

// Without takes rules of ACL SETUSER from the user that clients log in as.
func Without(rules ...string) Option {
	return func(s *Server) {
		s.rules = slices.DeleteFunc(s.rules, func(rule string) bool { return slices.Contains(rules, rule) })
	}
}

// A Server is a redis-server that runs for one test. Make it with [Start].
type Server struct {
	// Addr is its address, such as 127.0.0.1:41234.
	Addr string

	tb       testing.TB
	rules    []string // of ACL SETUSER, for user
	dir      string
	args     []string
	sentinel string // its configuration, if it is one
	young    bool

	mu      sync.Mutex // guards process
	process *process   // nil: killed
}

// Start starts a server, and waits until it answers. It is killed at the end
// of the test. Without redis-server, Start skips the test as [testkit.Need] does.
func Start(tb testing.TB, options ...Option) *Server {
	tb.Helper()
	testkit.Need(tb, "redis-server")
	s := &Server{tb: tb, dir: tb.TempDir(), rules: store.Database{Prefix: "hubspot:"}.Rules()}
	for _, option := range options {
		option(s)
	}
	tb.Cleanup(s.Kill)
	// A port that was free may be taken by the time that the server binds it.
	var err error
	for range 5 {
		s.Addr = freeAddr(tb)
		if err = s.start(); err == nil {
			s.age()
			return s
		}
	}
	tb.Fatal(err)
	return nil
}

// age makes the database look as if it had been in use for long: in one that has
// just lost its data, a portal that is missing may be about to be written back.
func (s *Server) age() {
	if s.sentinel != "" || s.young {
		return
	}
	client := redis.NewClient(&redis.Options{
		Addr: s.Addr, MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	defer client.Close()
	_ = client.SetNX(context.Background(), "hubspot:epoch", "1-redistest", 0).Err() // not where it is one of a Cluster
}

// Young leaves the database as new as it is: nothing is stored in it at first.
func Young() Option { return func(s *Server) { s.young = true } }

// The user that clients log in as: one that has the rights that the program needs,
// and no others.
const (
	user     = "hubspot"
	password = "the-rights-that-it-needs"
)

// URL is the server's address as a URL, for clients, with a user that has the
// rights that the program needs.
func (s *Server) URL() string {
	if s.sentinel != "" {
		return "redis://" + s.Addr
	}
	return login(s.Addr)
}

// login returns the URL of a server for a user with the rights that the program
// needs.
func login(addr string) string { return "redis://" + user + ":" + password + "@" + addr }

// Client returns a client of the server that may do anything, which is closed at
// the end of the test.
func (s *Server) Client(tb testing.TB) redis.UniversalClient {
	tb.Helper()
	client := redis.NewClient(&redis.Options{
		Addr:                     s.Addr,
		ContextTimeoutEnabled:    true,
		DialTimeout:              2 * time.Second,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	tb.Cleanup(func() { _ = client.Close() })
	return client
}

// Admin returns a client of the same Redis as client that may do anything, for
// what a test does itself. It is closed at the end of the test.
func Admin(tb testing.TB, client redis.UniversalClient) redis.UniversalClient {
	tb.Helper()
	one, ok := client.(*redis.Client)
	if !ok || one.Options().Username != user {
		return client
	}
	return (&Server{Addr: one.Options().Addr}).Client(tb)
}

// Do sends the server a command and returns its answer as text.
func (s *Server) Do(command ...any) string {
	s.tb.Helper()
	client := redis.NewClient(&redis.Options{
		Addr:                     s.Addr,
		Protocol:                 2, // without maps
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	defer client.Close()
	answer, err := client.Do(context.Background(), command...).Result()
	if err != nil {
		s.tb.Fatalf("redistest: %v: %v", command, err)
	}
	return fmt.Sprint(answer)
}

// Kill ends the server with SIGKILL, and returns when it is gone. It does
// nothing if the server does not run.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process != nil {
		s.process.kill()
		s.process = nil
	}
}

// Restart starts the server again on the same port, killing it first if it
// runs: without data, unless it was started with [Persist], or has saved a
// snapshot.
func (s *Server) Restart() { s.restart() }

// RestartWith is [Server.Restart] with further arguments, for this run only.
func (s *Server) RestartWith(args ...string) { s.restart(args...) }

// RestartReadOnly is [Server.Restart] as the replica of a master that is not
// there: it answers what is read, and takes no writes. A client's REPLICAOF NO
// ONE ends that.
func (s *Server) RestartReadOnly() { s.restart("--replicaof", "127.0.0.1", "1") }

func (s *Server) restart(more ...string) {
	s.tb.Helper()
	s.Kill()
	if err := s.start(more...); err != nil {
		s.tb.Fatal(err)
	}
}

// Pause stops the server with SIGSTOP: connections to it stay, and get no
// answer.
func (s *Server) Pause() { s.signal(syscall.SIGSTOP) }

// Resume ends a [Server.Pause].
func (s *Server) Resume() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) {
	s.tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		s.tb.Fatalf("redistest: %v for a server that does not run", sig)
	}
	if err := s.process.cmd.Process.Signal(sig); err != nil {
		s.tb.Fatalf("redistest: %v", err)
	}
}

// start runs the server, with arguments of this run, and waits until it answers.
func (s *Server) start(more ...string) error {
	_, port, _ := net.SplitHostPort(s.Addr)
	args := []string{}
	if s.sentinel != "" {
		config := filepath.Join(s.dir, "sentinel.conf") // Sentinel writes to it
		if err := writeFile(config, s.sentinel); err != nil {
			return err
		}
		args = append(args, config, "--sentinel")
	}
	args = append(args, "--port", port, "--bind", "127.0.0.1", "--dir", s.dir, "--daemonize", "no")
	if s.sentinel == "" {
		args = append(args, "--save", "", "--user", user, "on", ">"+password)
		args = append(args, s.rules...)
	}
	for _, arg := range slices.Concat(s.args, more) {
		if strings.Contains(arg, "%FREE%") {
			_, free, _ := net.SplitHostPort(freeAddr(s.tb))
			arg = strings.ReplaceAll(arg, "%FREE%", free)
		}
		args = append(args, strings.ReplaceAll(arg, "%PORT%", port))
	}
	p, err := run(args)
	if err != nil {
		return fmt.Errorf("redistest: %w", err)
	}
	if err := p.ready(s.Addr); err != nil {
		p.kill()
		return fmt.Errorf("redistest: %w; it said:\n%s", err, p.output.String())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.process = p
	return nil
}

// ready waits until the server answers PING.
func (p *process) ready(addr string) error {
	deadline := time.NewTimer(startTime)
	defer deadline.Stop()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		if ping(addr) {
			return nil
		}
		select {
		case <-p.ended:
			return fmt.Errorf("redis-server on %s has ended", addr)
		case <-deadline.C:
			return fmt.Errorf("redis-server on %s does not answer within %v", addr, startTime)
		case <-ticker.C:
		}
	}
}

// ping reports whether the server at addr answers as one that has read its
// data.
func ping(addr string) bool {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return false
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	if _, err := conn.Write([]byte("PING\r\n")); err != nil {
		return false
	}
	line, _ := bufio.NewReader(conn).ReadString('\n')
	return strings.HasPrefix(line, "+PONG")
}

// freeAddr returns an address of a port that nobody listens on now, low enough
// that the port of a Cluster's bus, 10000 above, is one too.
func freeAddr(tb testing.TB) string {
	tb.Helper()
	for {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			tb.Fatal(err)
		}
		defer l.Close()
		if port := l.Addr().(*net.TCPAddr).Port; port <= 55535 {
			return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		}
	}
}
