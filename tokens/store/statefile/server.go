// Package statefile keeps the data of the embedded Redis in a file, so that portals and client keys
// are not lost when the process ends, even if the process is killed or the machine fails.
//
// A [Server] receives the commands of Redis' clients, and passes them to miniredis, which has the
// data in memory. The Server runs one command at a time and writes the changed keys to the file. A
// key that does not expire (portals, client keys, the epoch) is on the disk before the command is
// answered, and before any other client can read the new content. If such a key cannot be written,
// the key gets its former content back, and the answer is the error MISCONF. A key that expires
// (nonces, locks, counts, rate windows) is on the disk within a second, and when the server is
// closed.
//
// # The file
//
// The file is text: the line "hubspot-auth-proxy state 1", followed by entries of one line each. An
// entry has the whole content of a key, or says that the key was deleted. Only the last entry of a
// key counts.
//
//	checksum length string expiry "key" "value"
//	checksum length hash expiry "key" "field" "value" …
//	checksum length gone 0 "key"
//
// The length is the number of bytes from the kind of the entry to the end of the line, without the
// line break. The checksum is the CRC-32C of these bytes, in hex. The expiry is in ms since 1970; 0
// means that the key does not expire. Texts are quoted as in Go.
//
// New entries are appended. When most of the file consists of replaced entries, the file is written
// anew without them. This also happens every ten minutes, and when the server is opened or closed,
// so that a secret that was replaced, sealed or removed does not stay in the file. The new file is
// written beside the old one, and then renamed.
//
// The file can be opened again, no matter when the process was killed. At most, the end of the last
// write is missing. Either the command of that write was not answered, or its keys expire. [Open]
// removes an incomplete entry from the end of the file. If the file has any other damage, Open
// returns an error and does not change the file.
//
// # Beside the file
//
//	FILE.lock  locked by the process that uses the file; has the name of that process, for people
//	FILE.sock  Unix socket on which that process serves Redis' protocol, after [Server.Listen]
//	FILE.next  the new file while it is being written
//
// All these files have mode 0600.
package statefile

import (
	"bufio"
	"bytes"
	"cmp"
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

// Socket returns the path of the Unix socket for the state file at path. The process that uses the
// file listens on it after [Server.Listen].
func Socket(path string) string { return path + socketSuffix }

// Options are the options of [Open].
type Options struct {
	// Holder describes this process, for people. While this process uses the file, the error
	// of Open in other processes contains the description.
	Holder string

	// Waste is a number of bytes. The file is written anew when its replaced entries have more
	// bytes than Waste and the entries in use together. 0 means 1 MiB.
	Waste int64

	// Log is the logger. nil means that nothing is logged.
	Log *zap.Logger
}

// A Server is a Redis within this process that keeps its data in a file. [Open] returns one; the
// zero value is not usable. Dial, and the connections that Dial returns, are safe for concurrent
// use. Call Listen at most once, and Close once, after all other calls.
type Server struct {
	path  string
	waste int64
	log   *zap.Logger

	front    *server.Server // accepts the connections of clients
	back     *server.Server // miniredis' server, which runs the commands
	redis    *miniredis.Miniredis
	listener net.Listener // nil means that Listen was not called

	// gate is held while a command runs and its changes are written. It guards the data in redis
	// and the fields from disk to complained.
	gate    sync.Mutex
	disk    *disk
	kept    map[string]saved    // the current entries of the file, by key
	inUse   int64               // number of bytes of the lines in kept
	touched map[string]struct{} // keys that the running command may have changed
	later   map[string]struct{} // changed keys that need not be written at once
	since   *strings.Builder    // lines that were appended while the file is being written anew; nil means that it is not
	clock   time.Time           // time up to which keys have expired

	wasteful     chan struct{} // has one element when the file is to be written anew
	rewriteAfter time.Time     // after a failure, when writing the file anew may be tried again
	complained   time.Time     // when it was last logged that the file cannot be written

	stop    chan struct{}
	running sync.WaitGroup // the goroutines of keep and Listen
}

// Open opens the file at path and locks it until [Server.Close]. If the file does not exist, Open
// creates it. Open does not wait for another process that uses the file; see [IsInUse]. The error
// is an [*Error].
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
		path: path, waste: cmp.Or(options.Waste, 1<<20), log: cmp.Or(options.Log, zap.NewNop()),
		front: server.NewServerConn(), redis: miniredis.NewMiniRedis(),
		disk: disk, kept: kept, touched: map[string]struct{}{}, later: map[string]struct{}{},
		clock: wallClock(), wasteful: make(chan struct{}, 1), stop: make(chan struct{}),
	}
	s.begin()
	if dropped > 0 {
		s.log.Warn("the last entry of STATE_FILE is dropped: its process was killed before it could use the entry", zap.String("file", path), zap.Int("bytes", dropped))
	}
	return s, nil
}

// begin loads the file's keys into miniredis and starts the goroutine of keep.
func (s *Server) begin() {
	if conn, err := s.redis.Dial(); err == nil { // the first Dial starts miniredis, without a port
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
		s.tidy() // a process that was killed may have left replaced entries
		s.keep()
	})
}

// Dial returns a new connection to the server, in memory. The error is always nil.
func (s *Server) Dial() (net.Conn, error) {
	client, own := net.Pipe()
	s.front.ServeConn(own)
	return client, nil
}

// Listen opens the Unix socket beside the file, on which other processes of this user can send
// commands. The error is an [*Error].
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

// Close closes all connections, writes the changes that are not written yet, and unlocks the file.
// An error means that some changes of keys that expire could not be written and are lost.
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
	return s.writeLater() // writes nothing unless catchUp has failed
}

// writeTimeout is the time after which a connection is closed because the other process does not
// read.
const writeTimeout = time.Second

// unstuck is a connection to another process. Write closes the connection if that process has
// stopped reading, because PUBLISH waits until all subscribers are sent the message.
type unstuck struct{ net.Conn }

func (c unstuck) Write(p []byte) (int, error) {
	_ = c.SetWriteDeadline(time.Now().Add(writeTimeout)) // if this fails, Write fails too
	n, err := c.Conn.Write(p)
	if err != nil {
		_ = c.Conn.Close()
	}
	return n, err
}

// connectionCommands are the commands that concern only the client's connection.
var connectionCommands = []string{"CLIENT", "HELLO", "PING", "QUIT", "SUBSCRIBE", "UNSUBSCRIBE"}

// reads are further commands that change no key themselves. EVAL and EVALSHA are among them, because
// note also sees each command of a script.
var reads = []string{
	"EVAL", "EVALSHA", "EXISTS", "GET", "GETRANGE", "HGET", "HGETALL", "HLEN", "HMGET", "INFO", "KEYS", "MGET", "PTTL", "PUBLISH", "PUBSUB", "SCAN", "TIME", "TTL", "TYPE",
}

// writes are the commands that change keys. Each has a function that returns the keys among the
// command's arguments. The server refuses commands that are in none of the three lists, because it
// would not know which keys they change.
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

// answer runs a client's command, and answers when the changes are written. It returns true, so that
// front does not run the command itself.
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
	peer.WriteRaw(reply) // without holding gate, because the client may be slow
	return true
}

// run runs a command, writes its changes, and returns its reply. The reply is buffered, because the
// client must not get it if the changes cannot be written.
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

// note adds the keys that a command may change to touched. miniredis calls it before each command,
// of a client or of a script. It returns true if the server refuses the command.
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
