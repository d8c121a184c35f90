package proxy

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

// maxHeader is how long the header of an answer may be, and what comes before
// it (1xx), in bytes.
const maxHeader = 1 << 20

const errLongHeader = secret.Fault("the header of HubSpot's answer is longer than 1 MiB")

// conn is a connection to HubSpot that has one request at a time.
type conn struct {
	net.Conn // raw, or TLS over it
	raw      *rawConn
	from     *bufio.Reader
	to       *bufio.Writer
	cut      func()    // closes it, made once
	left     int64     // how many bytes may still be read of a header
	heard    bool      // bytes of the answer
	late     bool      // the answer
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

// leaveTime is how long it may take to send close_notify.
const leaveTime = time.Second

// leave closes a connection that is not in use: over TLS, HubSpot is told by
// close_notify. Where it cannot be told at once, it is not.
func (c *conn) leave() {
	c.raw.limit(leaveTime)
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

// fresh reports whether the connection is open, and HubSpot has said nothing
// since its last answer: that would be taken for the answer to the next request,
// which may be another portal's.
func (c *conn) fresh() bool {
	if c.raw.now == nil {
		return false // it cannot be told
	}
	c.raw.glance = true
	_, err := c.from.Peek(1)
	c.raw.glance = false
	return err == errNothing && c.raw.records.whole()
}

// rawConn is a connection before TLS. One goroutine may write while another one
// reads.
type rawConn struct {
	net.Conn
	now    func(p []byte) (int, error) // reads what is there already, or fails with errNothing; nil: it cannot
	glance bool                        // reads do not wait
	answer *answer                     // whose body is being read; nil: none

	secure   bool // it is TLS
	records  records
	writing  sync.Mutex
	together []byte // to be sent, see gather
	written  bool   // something of the request
	broken   error  // that writing ended with

	stallTimeout time.Duration // how long HubSpot may take nothing; zero: as long as it likes
	progress     time.Time     // when it took something last
	writeUntil   time.Time     // the system's deadline
	answered     atomic.Bool   // the answer's header has come: writing takes what time it takes
	stalled      atomic.Bool   // HubSpot took nothing for too long

	mu    sync.Mutex
	until time.Time // when the header must have come; zero: it takes what time it takes
}

func newRawConn(c net.Conn, secure bool) *rawConn {
	return &rawConn{Conn: c, now: reader(c), secure: secure}
}

// Read reads what HubSpot sends. What the client has not got of the answer that
// is being read does not wait with it.
func (r *rawConn) Read(p []byte) (int, error) {
	n, err := r.read(p)
	if r.secure {
		r.records.pass(p[:n])
	}
	return n, err
}

func (r *rawConn) read(p []byte) (int, error) {
	receive := r.Conn.Read
	if r.glance {
		receive = r.now
	} else if r.answer != nil {
		r.answer.flush()
	}
	for {
		n, err := receive(p)
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) || r.overdue() {
			return n, err
		}
	}
}

// records follows the records of TLS (RFC 8446 section 5.1). What crypto/tls has
// of one that has not come whole it does not tell, and it may be what HubSpot
// was not asked for.
type records struct {
	header [5]byte // of the record that is coming
	got    int     // of that
	left   int     // bytes of the record after its header
}

// pass takes note of bytes.
func (r *records) pass(p []byte) {
	for len(p) > 0 {
		if r.got < len(r.header) {
			n := copy(r.header[r.got:], p)
			r.got += n
			p = p[n:]
			if r.got < len(r.header) {
				return
			}
			r.left = int(r.header[3])<<8 | int(r.header[4])
		}
		n := min(r.left, len(p))
		r.left -= n
		p = p[n:]
		if r.left == 0 {
			r.got = 0
		}
	}
}

// whole reports whether no record has come in part.
func (r *records) whole() bool { return r.got == 0 }

// expect sets the time until which reading may last. None is not told to the
// system, which still has the one before, and is told when that is over: so a
// request sets one, and not two.
func (r *rawConn) expect(until time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.until = until
	if !until.IsZero() {
		_ = r.SetReadDeadline(until)
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

// Write sends p, or keeps it to be sent together with what follows.
func (r *rawConn) Write(p []byte) (int, error) {
	r.writing.Lock()
	defer r.writing.Unlock()
	if len(r.together)+len(p) <= cap(r.together) {
		r.together = append(r.together, p...)
		return len(p), nil
	}
	if err := r.sendTogether(); err != nil {
		return 0, err
	}
	return r.send(p)
}

// gather makes what is written be kept in the buffer, until that is full or
// flush is called: TLS writes each of its records by itself. nil ends it, and
// sends what was written since the last flush: TLS answers a KeyUpdate in the
// goroutine that reads, at any time.
func (r *rawConn) gather(buffer []byte) {
	r.writing.Lock()
	defer r.writing.Unlock()
	_ = r.sendTogether()
	r.together = buffer[:0]
}

func (r *rawConn) flush() error {
	r.writing.Lock()
	defer r.writing.Unlock()
	return r.sendTogether()
}

func (r *rawConn) sendTogether() error {
	if len(r.together) == 0 {
		return r.broken
	}
	_, err := r.send(r.together)
	r.together = r.together[:0]
	return err
}

func (r *rawConn) send(p []byte) (int, error) {
	if r.broken != nil {
		return 0, r.broken
	}
	n, err := r.write(p)
	r.written = r.written || n > 0
	r.broken = err
	return n, err
}

// write writes p, unless HubSpot takes nothing of it for stallTimeout.
//
// The system's deadline is a part of that, so that progress is seen, and is not
// set for each write: one that comes early is set anew.
func (r *rawConn) write(p []byte) (written int, err error) {
	if r.stallTimeout == 0 {
		return r.Conn.Write(p)
	}
	r.progress = time.Now()
	if r.writeUntil.Before(r.progress) {
		r.extend(r.progress)
	}
	for {
		n, err := r.Conn.Write(p[written:])
		written += n
		if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
			return written, err
		}
		now := time.Now()
		if n > 0 {
			r.progress = now
		}
		if now.Sub(r.progress) >= r.stallTimeout && !r.answered.Load() {
			r.stalled.Store(true)
			return written, err
		}
		r.extend(now)
	}
}

// limit sets how long HubSpot may take nothing.
func (r *rawConn) limit(stallTimeout time.Duration) {
	r.writing.Lock()
	defer r.writing.Unlock()
	r.stallTimeout = stallTimeout
}

// extend sets the system's deadline for writing.
func (r *rawConn) extend(now time.Time) {
	r.writeUntil = now.Add(max(r.stallTimeout/4, time.Millisecond))
	_ = r.SetWriteDeadline(r.writeUntil)
}

// begin notes that a request begins, of which nothing has been written.
func (r *rawConn) begin(stallTimeout time.Duration) {
	r.writing.Lock()
	defer r.writing.Unlock()
	r.stallTimeout = stallTimeout
	r.written = false
	r.answered.Store(false)
}

// hasWritten reports whether anything of the request may have left. It waits for
// a write that is under way: the connection must have been closed before.
func (r *rawConn) hasWritten() bool {
	r.writing.Lock()
	defer r.writing.Unlock()
	return r.written
}

// errNothing is that nothing has come yet. To TLS it is an error that passes.
var errNothing = nothing{}

type nothing struct{}

func (nothing) Error() string   { return "nothing has come yet" }
func (nothing) Timeout() bool   { return true }
func (nothing) Temporary() bool { return true }
