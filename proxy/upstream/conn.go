package upstream

import (
	"bufio"
	"errors"
	"io"
	"math"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"hubspot-auth-proxy/tokens/secret"
)

const errHeaderTooLong = secret.Fault("the header of HubSpot's answer is longer than 1 MiB")

// closeNotifyTimeout limits how long sending close_notify may take.
const closeNotifyTimeout = time.Second

// conn is a connection to the server. It carries one request at a time.
type conn struct {
	net.Conn // raw, or TLS over it
	raw      *rawConn
	from     *bufio.Reader

	abort       func()    // calls Close; allocated once, for context.AfterFunc
	readLimit   int64     // bytes that may still be read before Read fails
	answerBegan bool      // at least one byte of the answer has arrived
	readErr     error     // the last error of Read since the request began
	timedOut    bool      // the request failed with a timeout
	idleSince   time.Time // when the pool took the connection
}

func newConn(raw *rawConn, over net.Conn) *conn {
	c := &conn{Conn: over, raw: raw, readLimit: math.MaxInt64}
	c.from = bufio.NewReader(c)
	c.abort = func() { _ = c.Close() }
	return c
}

// Close closes the socket at once, without sending close_notify.
func (c *conn) Close() error { return c.raw.Close() }

// shutdown closes a connection that is not in use. Over TLS, shutdown first sends
// close_notify, and gives up after closeNotifyTimeout.
func (c *conn) shutdown() {
	c.raw.setStallTimeout(closeNotifyTimeout)
	_ = c.Conn.Close()
}

// Read reads the server's bytes, decrypted if the connection uses TLS. Over TLS, Read
// returns io.EOF only after close_notify: otherwise anybody on the way could cut an answer
// whose end is the end of the connection (RFC 9112 section 9.8). Read fails with
// errHeaderTooLong when readLimit is used up.
func (c *conn) Read(p []byte) (int, error) {
	if c.readLimit <= 0 {
		c.readErr = errHeaderTooLong
		return 0, errHeaderTooLong
	}
	n, err := c.readTogether(p[:min(int64(len(p)), c.readLimit)])
	c.readLimit -= int64(n)
	c.answerBegan = c.answerBegan || n > 0
	if err == io.EOF && c.raw.secure && c.raw.ended {
		err = io.ErrUnexpectedEOF // the server has not sent close_notify
	}
	if err != nil {
		c.readErr = err
	}
	return n, err
}

// readTogether reads as [net.Conn] does. If the socket's last read returned several TLS
// records, readTogether returns their bytes together, so that they also leave together.
// tls.Conn returns one record at a time, of at most 16 KiB.
func (c *conn) readTogether(p []byte) (n int, err error) {
	before := c.raw.received
	n, err = c.Conn.Read(p)
	if !c.raw.secure || c.raw.polling != nil {
		return n, err
	}
	c.raw.polling = nothingMore
	for err == nil && n < len(p) && c.raw.received-before > int64(n+maxExpansion) {
		var more int
		more, err = c.Conn.Read(p[n:])
		n += more
	}
	c.raw.polling = nil
	if err == errWouldBlock {
		err = nil
	}
	return n, err
}

// maxExpansion is how many bytes longer than its content a TLS record can be (RFC 8446
// section 5.2, with the record's header).
const maxExpansion = 256 + 5

// nothingMore is a non-blocking read that never returns data.
func nothingMore([]byte) (int, error) { return 0, errWouldBlock }

// reusable reports whether the connection is open and the server has sent nothing
// since its last answer. Surplus bytes would be parsed as the answer to the next
// request, which may belong to another portal.
func (c *conn) reusable() bool { return c.raw.poll != nil && c.nothingToRead(c.raw.poll) }

// nothingBuffered is a weaker check than reusable, and makes no system call: it
// reports whether no surplus bytes have been read from the socket already.
func (c *conn) nothingBuffered() bool {
	return c.nothingToRead(nothingMore)
}

// nothingToRead reports whether the server has sent nothing, where poll reads from
// the socket without blocking.
func (c *conn) nothingToRead(poll func([]byte) (int, error)) bool {
	c.raw.polling = poll
	_, err := c.from.Peek(1)
	c.raw.polling = nil
	return err == errWouldBlock && c.raw.records.whole()
}

// rawConn is a connection before TLS. One goroutine may write while another one
// reads.
type rawConn struct {
	net.Conn
	poll    func(p []byte) (int, error) // non-blocking read; fails with errWouldBlock if there is no data; nil if the platform has none
	polling func(p []byte) (int, error) // what Read uses instead of the socket's blocking read; nil means the blocking read
	onWait  func()                      // called before each blocking read; nil means no callback

	secure   bool // TLS runs over this connection
	records  records
	received int64 // bytes read from the socket
	ended    bool  // the socket has returned io.EOF

	writing  sync.Mutex // guards the fields below, up to writeUntil
	gathered []byte     // not sent yet, see gather
	written  bool       // at least one byte of the request was written
	writeErr error      // the first write error; every later write returns it

	stallTimeout time.Duration // how long a write may make no progress; zero means no limit
	progress     time.Time     // when a write last made progress
	writeUntil   time.Time     // the socket's write deadline
	stalled      atomic.Bool   // a write made no progress for stallTimeout

	answered atomic.Bool // the answer's header was received

	mu          sync.Mutex
	headerUntil time.Time // deadline of the answer's header; zero means no limit
}

func newRawConn(c net.Conn, secure bool) *rawConn {
	return &rawConn{Conn: c, poll: poller(c), secure: secure}
}

// beginRequest resets the state of the previous request.
func (r *rawConn) beginRequest(stallTimeout time.Duration) {
	r.writing.Lock()
	defer r.writing.Unlock()
	r.stallTimeout, r.written = stallTimeout, false
	r.answered.Store(false)
}

// headerReceived records that the answer's header was received. From then on neither
// reading nor writing has a time limit.
func (r *rawConn) headerReceived() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answered.Store(true)
	r.headerUntil = time.Time{}
}

// Read reads the server's bytes as they are on the wire.
func (r *rawConn) Read(p []byte) (int, error) {
	n, err := r.read(p)
	r.received += int64(n)
	r.ended = r.ended || err == io.EOF
	if r.secure {
		r.records.follow(p[:n])
	}
	return n, err
}

func (r *rawConn) read(p []byte) (int, error) {
	receive := r.Conn.Read
	if r.polling != nil {
		receive = r.polling
	} else if r.onWait != nil {
		r.onWait()
	}
	for {
		n, err := receive(p)
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) || r.headerOverdue() {
			return n, err
		}
	}
}

// expectHeader sets the read deadline of the answer's header. headerReceived clears
// headerUntil only, and leaves the socket's old deadline armed; read ignores that
// deadline when it fires. This saves a system call per request.
func (r *rawConn) expectHeader(timeout time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if timeout > 0 && !r.answered.Load() {
		r.headerUntil = time.Now().Add(timeout)
		_ = r.SetReadDeadline(r.headerUntil)
	}
}

// headerOverdue reports whether the deadline of the answer's header has passed. If it
// has not, headerOverdue sets the socket's read deadline anew, and reading can go on.
func (r *rawConn) headerOverdue() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.headerUntil.IsZero() && !time.Now().Before(r.headerUntil) {
		return true
	}
	return r.SetReadDeadline(r.headerUntil) != nil
}

// errWouldBlock is returned by a non-blocking read when there is no data. It is a
// temporary net.Error, so that crypto/tls can read on after it.
var errWouldBlock = wouldBlock{}

type wouldBlock struct{}

func (wouldBlock) Error() string   { return "no data available yet" }
func (wouldBlock) Timeout() bool   { return true }
func (wouldBlock) Temporary() bool { return true }
