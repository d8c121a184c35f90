package upstream

import (
	"bufio"
	"errors"
	"math"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"hubspot-auth-proxy/tokens/secret"
)

const errLongHeader = secret.Fault("the header of HubSpot's answer is longer than 1 MiB")

// leaveTimeout is how long it may take to send close_notify.
const leaveTimeout = time.Second

// conn is a connection to the server that has one request at a time.
type conn struct {
	net.Conn // raw, or TLS over it
	raw      *rawConn
	from     *bufio.Reader
	to       *bufio.Writer
	cut      func()    // closes it, made once
	left     int64     // how many bytes may still be read of a header
	heard    bool      // bytes of the answer have come
	timedOut bool      // the answer did not come in time
	since    time.Time // it is idle
}

func newConn(raw *rawConn, over net.Conn) *conn {
	c := &conn{Conn: over, raw: raw, to: bufio.NewWriter(over), left: math.MaxInt64}
	c.from = bufio.NewReader(c)
	c.cut = func() { _ = c.Close() }
	return c
}

// Close closes the connection at once, without a word.
func (c *conn) Close() error { return c.raw.Close() }

// leave closes a connection that is not in use: over TLS, the server is told by
// close_notify, if it takes that within leaveTimeout.
func (c *conn) leave() {
	c.raw.limit(leaveTimeout)
	_ = c.Conn.Close()
}

// flush sends all that was written.
func (c *conn) flush() error { return errors.Join(c.to.Flush(), c.raw.flush()) }

// Read reads what is inside TLS.
func (c *conn) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errLongHeader
	}
	n, err := c.Conn.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	c.heard = c.heard || n > 0
	return n, err
}

// fresh reports whether the connection is open, and the server has sent nothing
// since its last answer: that would be taken for the answer to the next request,
// which may be another portal's.
func (c *conn) fresh() bool { return c.raw.poll != nil && c.quiet(c.raw.poll) }

// drained reports whether nothing has been read of what fresh does not want, without
// a system call.
func (c *conn) drained() bool {
	return c.quiet(func([]byte) (int, error) { return 0, errNothing })
}

// quiet reports whether there is nothing to be read, by these reads of the raw
// connection.
func (c *conn) quiet(poll func([]byte) (int, error)) bool {
	c.raw.polling = poll
	_, err := c.from.Peek(1)
	c.raw.polling = nil
	return err == errNothing && c.raw.records.whole()
}

// rawConn is a connection before TLS. One goroutine may write while another one
// reads.
type rawConn struct {
	net.Conn
	poll    func(p []byte) (int, error) // reads what is there already, or fails with errNothing; nil: it cannot
	polling func(p []byte) (int, error) // reads by this, and does not wait; nil: it may wait
	onWait  func()                      // called before a read that may wait; nil: nothing is

	secure  bool // it is TLS
	records records

	writing  sync.Mutex
	gathered []byte // to be sent, see gather
	written  bool   // something of the request
	broken   error  // that writing ended with

	stallTimeout time.Duration // how long the server may take nothing; zero: no limit
	progress     time.Time     // when it took something last
	writeUntil   time.Time     // the system's deadline
	stalled      atomic.Bool   // the server took nothing for too long

	answered atomic.Bool // the answer's header has come

	mu    sync.Mutex
	until time.Time // when the header must have come; zero: no limit
}

func newRawConn(c net.Conn, secure bool) *rawConn {
	return &rawConn{Conn: c, poll: poller(c), secure: secure}
}

// begin notes that a request begins, of which nothing has been written.
func (r *rawConn) begin(stallTimeout time.Duration) {
	r.writing.Lock()
	defer r.writing.Unlock()
	r.stallTimeout, r.written = stallTimeout, false
	r.answered.Store(false)
}

// headed notes that the header of the answer has come: nothing has to be in time
// any more.
func (r *rawConn) headed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answered.Store(true)
	r.until = time.Time{}
}

// Read reads what the server sends.
func (r *rawConn) Read(p []byte) (int, error) {
	n, err := r.read(p)
	if r.secure {
		r.records.pass(p[:n])
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
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) || r.overdue() {
			return n, err
		}
	}
}

// expectHeader sets the read deadline of the answer's header. Clearing it, by headed,
// leaves the socket's old deadline armed; read ignores that one when it fires. This
// saves a system call per request.
func (r *rawConn) expectHeader(timeout time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if timeout > 0 && !r.answered.Load() {
		r.until = time.Now().Add(timeout)
		_ = r.SetReadDeadline(r.until)
	}
}

// overdue reports whether the time is over; if it is not, reading can go on.
func (r *rawConn) overdue() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.until.IsZero() && !time.Now().Before(r.until) {
		return true
	}
	return r.SetReadDeadline(r.until) != nil
}

// errNothing is that nothing has come yet. To TLS it is an error that passes.
var errNothing = nothing{}

type nothing struct{}

func (nothing) Error() string   { return "nothing has come yet" }
func (nothing) Timeout() bool   { return true }
func (nothing) Temporary() bool { return true }
