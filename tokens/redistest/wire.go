//go:build unix

package redistest

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"
)

// A Wire is a TCP proxy in front of a server. A test can hold commands and answers, delay
// answers, and cut connections. All methods are safe for concurrent use. A Wire is closed when
// the test ends.
type Wire struct {
	// Addr is the address that clients connect to.
	Addr string

	listener net.Listener
	work     sync.WaitGroup
	ended    chan struct{}

	mu     sync.Mutex // guards the fields below
	server string
	delay  time.Duration
	cut    bool
	holds  []*Hold
	conns  []net.Conn
}

// A Hold holds some commands, or the answers to them, until [Hold.Release].
type Hold struct {
	// Reached is closed when the first command or answer is held.
	Reached <-chan struct{}

	// Release sends everything that is held. From then on, nothing is held.
	Release func()

	reach    func() // closes Reached
	released <-chan struct{}
	matches  func(command []string) bool
	answers  bool
}

// Wire starts a Wire in front of the server.
func (s *Server) Wire(tb testing.TB) *Wire {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	w := &Wire{Addr: listener.Addr().String(), listener: listener, server: s.Addr, ended: make(chan struct{})}
	w.work.Go(w.accept)
	tb.Cleanup(w.end)
	return w
}

// URL returns the Wire's address as a REDIS_URL, with the user of [Server.URL].
func (w *Wire) URL() string { return login(w.Addr) }

// Delay delays every answer from now on by d. 0 ends the delay.
func (w *Wire) Delay(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.delay = d
}

// Cut closes all connections. Until [Wire.Mend], every new connection is closed at once.
func (w *Wire) Cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = true
	w.closeAll()
}

// Redirect closes all connections, and connects new ones to another server.
func (w *Wire) Redirect(s *Server) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.server = s.Addr
	w.closeAll()
}

// closeAll closes all connections. The caller holds w.mu.
func (w *Wire) closeAll() {
	for _, conn := range w.conns {
		_ = conn.Close()
	}
	w.conns = nil
}

// Mend ends [Wire.Cut].
func (w *Wire) Mend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = false
}

// HoldCommands holds the commands that match, so that the server does not receive them.
// Commands that follow on the same connection are held too. matches may be called from several
// goroutines at once.
func (w *Wire) HoldCommands(matches func(command []string) bool) *Hold { return w.hold(matches, false) }

// HoldAnswers holds the answers to the commands that match, so that the client does not
// receive them. Answers that follow on the same connection are held too. matches may be called
// from several goroutines at once.
func (w *Wire) HoldAnswers(matches func(command []string) bool) *Hold { return w.hold(matches, true) }

func (w *Wire) hold(matches func([]string) bool, answers bool) *Hold {
	reached, released := make(chan struct{}), make(chan struct{})
	h := &Hold{
		Reached: reached, reach: sync.OnceFunc(func() { close(reached) }),
		released: released, Release: sync.OnceFunc(func() { close(released) }),
		matches: matches, answers: answers,
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.holds = append(w.holds, h)
	return h
}

// holding returns the first hold that matches the command, or nil if there is none.
func (w *Wire) holding(command []string) *Hold {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, h := range w.holds {
		if h.matches(command) {
			return h
		}
	}
	return nil
}

func (w *Wire) accept() {
	for {
		client, err := w.listener.Accept()
		if err != nil {
			return
		}
		w.mu.Lock()
		to := w.server
		w.mu.Unlock()
		server, err := net.Dial("tcp", to)
		if err != nil {
			_ = client.Close()
			continue
		}
		w.mu.Lock()
		if w.cut || w.server != to {
			_, _ = client.Close(), server.Close()
			w.mu.Unlock()
			continue
		}
		w.conns = append(w.conns, client, server)
		w.mu.Unlock()
		l := &line{wire: w, client: client, server: server}
		w.work.Go(l.commands)
		w.work.Go(l.answers)
	}
}

func (w *Wire) end() {
	_ = w.listener.Close()
	close(w.ended)
	w.mu.Lock()
	w.closeAll()
	w.mu.Unlock()
	w.work.Wait()
}

// line is one connection of a client through a Wire.
type line struct {
	wire           *Wire
	client, server net.Conn

	mu   sync.Mutex
	held *Hold // the hold that holds the answers, or nil
}

func (l *line) commands() {
	defer l.server.Close()
	in := bufio.NewReader(l.client)
	for {
		command, raw, err := readCommand(in)
		if err != nil {
			return
		}
		if h := l.wire.holding(command); h != nil {
			if h.answers {
				l.mu.Lock()
				l.held = h
				l.mu.Unlock()
			} else if !l.await(h) {
				return
			}
		}
		if _, err := l.server.Write(raw); err != nil {
			return
		}
	}
}

// await waits until the hold is released. It returns false if the Wire is closed first.
func (l *line) await(h *Hold) bool {
	h.reach()
	select {
	case <-h.released:
		return true
	case <-l.wire.ended:
		return false
	}
}

// late is an answer and the time at which to send it.
type late struct {
	data []byte
	due  time.Time
}

func (l *line) answers() {
	defer l.client.Close()
	queue := make(chan late, 1024)
	l.wire.work.Go(func() { l.send(queue) })
	defer close(queue)
	for {
		buffer := make([]byte, 16<<10)
		n, err := l.server.Read(buffer)
		if err != nil {
			return
		}
		l.mu.Lock()
		held := l.held
		l.mu.Unlock()
		if held != nil && !l.await(held) {
			return
		}
		l.wire.mu.Lock()
		due := time.Now().Add(l.wire.delay)
		l.wire.mu.Unlock()
		queue <- late{buffer[:n], due}
	}
}

func (l *line) send(queue <-chan late) {
	for answer := range queue {
		select {
		case <-time.After(time.Until(answer.due)):
			_, _ = l.client.Write(answer.data)
		case <-l.wire.ended:
		}
	}
}

// readCommand reads one command in RESP. raw has the command's bytes.
func readCommand(in *bufio.Reader) (command []string, raw []byte, err error) {
	var all bytes.Buffer
	number := func(kind byte) (int, error) {
		line, err := in.ReadString('\n')
		if err != nil {
			return 0, err
		}
		all.WriteString(line)
		if len(line) < 4 || line[0] != kind {
			return 0, fmt.Errorf("redistest: %q is not the RESP of a command", line)
		}
		return strconv.Atoi(line[1 : len(line)-2])
	}
	words, err := number('*')
	if err != nil {
		return nil, nil, err
	}
	for range words {
		length, err := number('$')
		if err != nil {
			return nil, nil, err
		}
		word := make([]byte, length+2)
		if _, err := io.ReadFull(in, word); err != nil {
			return nil, nil, err
		}
		all.Write(word)
		command = append(command, string(word[:length]))
	}
	return command, all.Bytes(), nil
}
