//go:build unix

// Package redistest runs a real redis-server for a test, similar to net/http/httptest. The
// server listens on a free loopback port, and writes nothing to disk unless [Persist] is
// given. A test can kill, restart and pause the server, and cut or delay connections to it.
// The server is killed when the test ends.
package redistest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
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

// startTime limits the time until a server answers.
const startTime = 10 * time.Second

// An Option changes how a server is started.
type Option func(*Server)

// Persist makes the server write every change to disk before it answers, so that the server
// still has its data after [Server.Restart].
func Persist() Option {
	return With("--appendonly", "yes", "--appendfsync", "always")
}

// With starts the server with further arguments. In an argument, %PORT% is replaced by the
// server's port, and %FREE% by another free port.
func With(args ...string) Option {
	return func(s *Server) { s.args = append(s.args, args...) }
}

// Sentinel starts a Redis Sentinel with this configuration instead of a server.
func Sentinel(lines ...string) Option {
	return func(s *Server) { s.sentinel = strings.Join(lines, "\n") + "\n" }
}

// Without removes rules of ACL SETUSER from the user of [Server.URL].
func Without(rules ...string) Option {
	return func(s *Server) {
		s.rules = slices.DeleteFunc(s.rules, func(rule string) bool { return slices.Contains(rules, rule) })
	}
}

// A Server is a redis-server that runs for one test. [Start] starts one; the zero value is
// not usable.
type Server struct {
	// Addr is the server's address, such as 127.0.0.1:41234. It stays the same after
	// a restart.
	Addr string

	tb       testing.TB
	rules    []string // rules of ACL SETUSER for user
	dir      string
	args     []string
	sentinel string // the configuration of a Sentinel; empty means a server
	young    bool

	mu      sync.Mutex // guards process
	process *process   // nil means that the server was killed
}

// Start starts a server and waits until it answers. The server is killed when the test ends.
// If redis-server is not installed, Start skips or fails the test as [testkit.Need] does.
func Start(tb testing.TB, options ...Option) *Server {
	tb.Helper()
	testkit.Need(tb, "redis-server")
	s := &Server{tb: tb, dir: tb.TempDir(), rules: store.Database{Prefix: "hubspot:"}.Rules()}
	for _, option := range options {
		option(s)
	}
	tb.Cleanup(s.Kill)
	// Another process may take the free port before the server listens on it.
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

// age makes the database look as if it had been in use for a long time. In a new database,
// the program answers 503 for an unknown portal, because another process may be about to
// write the portal back.
func (s *Server) age() {
	if s.sentinel != "" || s.young {
		return
	}
	client := s.connect(3)
	defer client.Close()
	_ = client.SetNX(context.Background(), "hubspot:epoch", "1-redistest", 0).Err() // fails in a Cluster, where the key may belong to another node
}

// Young starts the server with an empty database. Without Young, the database has an epoch
// that looks as if the database had been in use for a long time.
func Young() Option { return func(s *Server) { s.young = true } }

// The user of [Server.URL]. It has only the rights that the program needs.
const (
	user     = "hubspot"
	password = "the-rights-that-it-needs"
)

// URL returns the server's address as a REDIS_URL, with a user that has only the rights that
// the program needs.
func (s *Server) URL() string {
	if s.sentinel != "" {
		return "redis://" + s.Addr
	}
	return login(s.Addr)
}

// login returns the REDIS_URL of addr, with a user that has only the rights that the program
// needs.
func login(addr string) string { return "redis://" + user + ":" + password + "@" + addr }

// Client returns a client of the server that has all rights. The client is closed when the
// test ends.
func (s *Server) Client(tb testing.TB) redis.UniversalClient {
	tb.Helper()
	client := s.connect(3)
	tb.Cleanup(func() { _ = client.Close() })
	return client
}

// connect returns a client that uses this version of RESP.
func (s *Server) connect(protocol int) *redis.Client {
	return redis.NewClient(&redis.Options{
		Addr:                     s.Addr,
		Protocol:                 protocol,
		ContextTimeoutEnabled:    true,
		DialTimeout:              2 * time.Second,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
}

// Admin returns a client that uses the same Redis as client and has all rights, for commands
// of the test itself. The returned client is closed when the test ends. Admin returns client
// itself if client does not log in as the user of [Server.URL].
func Admin(tb testing.TB, client redis.UniversalClient) redis.UniversalClient {
	tb.Helper()
	one, ok := client.(*redis.Client)
	if !ok || one.Options().Username != user {
		return client
	}
	return (&Server{Addr: one.Options().Addr}).Client(tb)
}

// Dir is the folder that the server reads its data from, and writes it to.
func (s *Server) Dir() string { return s.dir }

// Do sends a command to the server and returns the answer as text. It fails the test if the
// answer is an error.
func (s *Server) Do(command ...any) string {
	s.tb.Helper()
	client := s.connect(2) // its answers have no maps, so fmt prints them in order
	defer client.Close()
	answer, err := client.Do(context.Background(), command...).Result()
	if err != nil {
		s.tb.Fatalf("redistest: %v: %v", command, err)
	}
	return fmt.Sprint(answer)
}

// Kill kills the server with SIGKILL and returns when it has ended. Kill does nothing if the
// server is not running.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process != nil {
		s.process.kill()
		s.process = nil
	}
}

// Restart starts the server again at the same address, and kills it first if it is running.
// The server has lost its data, unless it was started with [Persist] or has saved a snapshot.
func (s *Server) Restart() { s.RestartWith() }

// RestartReadOnly is like [Server.Restart], and makes the server the replica of a master that
// does not exist. The server serves reads and refuses writes until a client sends REPLICAOF
// NO ONE.
func (s *Server) RestartReadOnly() { s.RestartWith("--replicaof", "127.0.0.1", "1") }

// RestartWith is like [Server.Restart], with further arguments until the next restart.
func (s *Server) RestartWith(args ...string) {
	s.tb.Helper()
	s.Kill()
	if err := s.start(args...); err != nil {
		s.tb.Fatal(err)
	}
}

// Pause stops the server with SIGSTOP. Connections stay open, and the server does not answer.
func (s *Server) Pause() { s.signal(syscall.SIGSTOP) }

// Resume lets the server continue after [Server.Pause].
func (s *Server) Resume() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) {
	s.tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		s.tb.Fatalf("redistest: %v for a server that is not running", sig)
	}
	if err := s.process.cmd.Process.Signal(sig); err != nil {
		s.tb.Fatalf("redistest: %v", err)
	}
}

// start starts the server, with further arguments for this run, and waits until it answers.
func (s *Server) start(more ...string) error {
	_, port, _ := net.SplitHostPort(s.Addr)
	args := []string{}
	if s.sentinel != "" {
		config := filepath.Join(s.dir, "sentinel.conf") // Sentinel writes to it
		if err := os.WriteFile(config, []byte(s.sentinel), 0o600); err != nil {
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
	p := &process{cmd: exec.Command("redis-server", args...)}
	p.cmd.Stdout, p.cmd.Stderr = &p.output, &p.output
	var err error
	if p.ended, err = testkit.Run(p.cmd); err != nil {
		return fmt.Errorf("redistest: %w", err)
	}
	if err := p.ready(s.Addr); err != nil {
		p.kill()
		return fmt.Errorf("redistest: %w; its output:\n%s", err, p.output.String())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.process = p
	return nil
}

// process is one process of redis-server.
type process struct {
	cmd    *exec.Cmd
	output testkit.Output
	ended  <-chan struct{} // closed when the process has ended
}

// kill kills the process and waits until it has ended.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// ready waits until the server answers PING.
func (p *process) ready(addr string) error {
	deadline := time.NewTimer(startTime)
	defer deadline.Stop()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		if p.answers(addr) {
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

// answers reports whether the server at addr is this process, and answers PING. If another
// program has taken the port, its server answers there. A server that is still loading its
// data answers PING with an error.
func (p *process) answers(addr string) bool {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return false
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	if _, err := conn.Write([]byte("PING\r\nINFO server\r\nQUIT\r\n")); err != nil {
		return false
	}
	answer, _ := io.ReadAll(conn)
	return bytes.HasPrefix(answer, []byte("+PONG")) && bytes.Contains(answer, fmt.Appendf(nil, "\nprocess_id:%d\r\n", p.cmd.Process.Pid))
}

// freeAddr returns a loopback address with a free port. The port is at most 55535, because a
// Cluster's bus listens on the port plus 10000.
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
