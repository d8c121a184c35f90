// Package statefile keeps the data of the embedded Redis in a file, so that nothing is lost when
// the process ends, by whatever cause.
//
// A [Server] stands between the clients of Redis and miniredis, which has the data in memory. It
// runs one command at a time, and writes down what each has changed before it answers: a key that
// does not expire (portals, client keys, the epoch) is on the disk before any client can see its
// new content; a key that expires (nonces, locks, counts, rate windows) is there within a second,
// and when the server is closed.
//
// # The file
//
// The file is text: the line "hubspot-auth-proxy state 1", then entries. An entry is the whole
// content of a key, or that the key is gone; a later entry of a key replaces an earlier one:
//
//	checksum length string expiry "key" "value"
//	checksum length hash expiry "key" "field" "value" …
//	checksum length gone 0 "key"
//
// The checksum is the CRC-32C, in hex, of what follows the length, and the length its bytes. The
// expiry is in ms since 1970, 0 for none. Texts are quoted as in Go.
//
// Entries are appended. The file is written anew beside the old one, and renamed, when most of it
// is replaced entries; and every ten minutes and when the server is opened or closed, so that no
// secret stays in the file that was replaced, sealed or removed.
//
// So the file can be opened wherever the process was killed: it lacks at most the end of its last
// entry, whose command was not answered, and which is dropped. A file with any other fault is
// reported, and left as it is.
//
// # Beside the file
//
//	FILE.lock  locked by the process that has the file. It says who that is, for people
//	FILE.sock  Unix socket on which that process answers Redis' protocol, if it listens
//	FILE.next  the file while it is written anew
//
// All have mode 0600.
package statefile

import (
	"bufio"
	"bytes"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	"go.uber.org/zap"
)

const (
	lockSuffix   = ".lock"
	socketSuffix = ".sock"
	nextSuffix   = ".next"
)

// Socket returns the path of the socket of the process that has the file.
func Socket(path string) string { return path + socketSuffix }

// Options are what [Open] can be given.
type Options struct {
	// Holder names this process to those that find the file in use.
	Holder string

	// Waste is how many bytes of replaced entries the file may have, on top of as many as are
	// in use, before it is written anew. Zero means 1 MiB.
	Waste int64

	// Log gets what happens to the file. Nil means nowhere.
	Log *zap.Logger
}

// A Server is a Redis within this process that keeps its data in a file. It is safe for
// concurrent use.
type Server struct {
	path  string
	waste int64
	log   *zap.Logger

	front    *server.Server // what clients are connected to
	back     *server.Server // miniredis' own, which runs the commands
	redis    *miniredis.Miniredis
	listener net.Listener // nil: it listens nowhere

	// gate is held while a command runs and is written down.
	gate    sync.Mutex
	disk    *disk
	kept    map[string]saved    // what the file has
	inUse   int64               // bytes of kept
	touched map[string]struct{} // keys that the running command may have changed
	later   map[string]struct{} // keys to be written within a second
	since   *strings.Builder    // what was appended since the file is being written anew; nil: it is not
	clock   time.Time           // up to when keys have expired

	wasteful     chan struct{} // has one element when the file is to be written anew
	rewriteAfter time.Time     // when that may be tried again
	complained   time.Time     // when it was last logged that the file cannot be written

	stop    chan struct{}
	running sync.WaitGroup // what runs beside the commands
}

// Open opens the file at path, or makes it, and locks it. The error is an [*Error].
func Open(path string, options Options) (*Server, error) {
	disk, err := openDisk(path, options.Holder)
	if err != nil {
		return nil, err
	}
	kept, dropped, err := disk.load()
	if err != nil {
		disk.close()
		return nil, err
	}
	s := &Server{
		path: path, waste: options.Waste, log: options.Log,
		front: server.NewServerConn(), redis: miniredis.NewMiniRedis(),
		disk: disk, kept: kept, touched: map[string]struct{}{}, later: map[string]struct{}{},
		clock: wallClock(), wasteful: make(chan struct{}, 1), stop: make(chan struct{}),
	}
	if s.waste == 0 {
		s.waste = 1 << 20
	}
	if s.log == nil {
		s.log = zap.NewNop()
	}
	s.begin()
	if dropped > 0 {
		s.log.Warn("the last entry of STATE_FILE is dropped: its process was killed before it could use the entry", zap.String("file", path), zap.Int("bytes", dropped))
	}
	return s, nil
}

// begin fills miniredis and starts what runs beside the commands.
func (s *Server) begin() {
	if conn, err := s.redis.Dial(); err == nil { // which starts it, without a port
		_ = conn.Close()
	}
	s.back = s.redis.Server()
	s.back.SetPreHook(s.note)
	s.front.SetPreHook(s.answer)
	for _, saved := range s.kept {
		s.inUse += int64(len(saved.line))
		s.restore(saved)
	}
	s.running.Go(func() {
		s.tidy() // after a process that was killed
		s.keep()
	})
}

// Dial returns a connection to the server, in memory.
func (s *Server) Dial() (net.Conn, error) {
	client, own := net.Pipe()
	s.front.ServeConn(own)
	return client, nil
}

// Listen opens the socket beside the file, for other processes of this user.
func (s *Server) Listen() error {
	listener, err := s.disk.listen(Socket(s.path))
	if err != nil {
		return unusable("has no socket for commands beside it", err, "give a shorter path if this one has more than 95 bytes, on a disk that can have sockets")
	}
	s.listener = listener
	s.running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // closed
			}
			s.front.ServeConn(unstuck{conn})
		}
	})
	return nil
}

// Close writes what is not written yet, and frees the file. The error says that the last
// second's changes of keys that expire are lost.
func (s *Server) Close() error {
	if s.listener != nil {
		s.disk.removeSocket()
		_ = s.listener.Close()
	}
	close(s.stop)
	s.running.Wait()
	s.front.Close()
	s.redis.Close()
	defer s.disk.close()
	s.catchUp()
	s.tidy()
	return s.writeLater() // nothing, unless that has failed
}

// writeTimeout is how long another process may take nothing of what is sent to it.
const writeTimeout = time.Second

// unstuck closes a connection to a process that has stopped reading: Redis' publishers wait for
// all subscribers.
type unstuck struct{ net.Conn }

func (c unstuck) Write(p []byte) (int, error) {
	_ = c.SetWriteDeadline(time.Now().Add(writeTimeout)) // else Write fails, too
	n, err := c.Conn.Write(p)
	if err != nil {
		_ = c.Conn.Close()
	}
	return n, err
}

// connectionCommands belong to the client's connection.
var connectionCommands = []string{"CLIENT", "HELLO", "PING", "QUIT", "SUBSCRIBE", "UNSUBSCRIBE"}

// reads are further commands that change no key by themselves.
var reads = []string{
	"EVAL", "EVALSHA", "EXISTS", "GET", "GETRANGE", "HGET", "HGETALL", "HLEN", "HMGET", "INFO", "KEYS", "MGET", "PTTL", "PUBLISH", "PUBSUB", "SCAN", "TIME", "TTL", "TYPE",
}

// writes are the commands that change keys, and where their keys stand. The server must know
// them all: it refuses other commands.
var writes = map[string]func(args []string) []string{
	"DEL":     func(args []string) []string { return args },
	"HDEL":    first,
	"HINCRBY": first,
	"HSET":    first,
	"HSETNX":  first,
	"MSET":    everySecond,
	"MSETNX":  everySecond,
	"PEXPIRE": first,
	"SET":     first,
}

func first(args []string) []string { return args[:min(1, len(args))] }

func everySecond(args []string) (keys []string) {
	for i := 0; i < len(args); i += 2 {
		keys = append(keys, args[i])
	}
	return keys
}

// Knows reports whether the server runs the command.
func Knows(command string) bool {
	command = strings.ToUpper(command)
	_, isWrite := writes[command]
	return isWrite || slices.Contains(reads, command) || slices.Contains(connectionCommands, command)
}

// answer runs a client's command, and answers when what it has changed is written down.
func (s *Server) answer(peer *server.Peer, command string, args ...string) bool {
	if slices.Contains(connectionCommands, command) {
		s.gate.Lock()
		defer s.gate.Unlock()
		s.back.Dispatch(peer, slices.Concat([]string{command}, args))
		return true
	}
	reply, err := s.run(peer, command, args)
	if err != nil {
		peer.WriteError("MISCONF the state file cannot be written")
		return true
	}
	peer.WriteRaw(reply) // without the gate: the client may be slow
	return true
}

// run runs a command. Its reply is held back because it cannot be taken back.
func (s *Server) run(peer *server.Peer, command string, args []string) (reply string, err error) {
	var buffer bytes.Buffer
	inner := server.NewPeer(bufio.NewWriter(&buffer))
	inner.Ctx, inner.Resp3 = peer.Ctx, peer.Resp3
	s.gate.Lock()
	defer s.gate.Unlock()
	clear(s.touched)
	s.back.Dispatch(inner, slices.Concat([]string{command}, args))
	peer.Ctx = inner.Ctx
	inner.Flush()
	return buffer.String(), s.writeTouched()
}

// note notes the keys that a command may change, be it a client's or a script's.
func (s *Server) note(peer *server.Peer, command string, args ...string) bool {
	if !Knows(command) {
		peer.WriteError("ERR unknown command: STATE_FILE has only those that hubspot-auth-proxy uses")
		return true
	}
	if keysOf := writes[command]; keysOf != nil {
		for _, key := range keysOf(args) {
			s.touched[key] = struct{}{}
		}
	}
	return false
}
