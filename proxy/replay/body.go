// Package replay keeps the body of a request while it streams, so that it can be
// sent a second time.
package replay

import (
	"io"
	"net/http"
	"sync"
	"sync/atomic"
)

// A Body is the body of a request. It keeps what it reads, up to a limit, while
// that streams through, and gives it again to the next attempt. It is safe for
// concurrent use.
//
// Each attempt has a reader of its own: a transport may still read for the
// first one after its answer has come (see http.RoundTripper).
type Body struct {
	source io.Reader
	length int64 // -1 if unknown
	limit  int64
	memory *Memory

	done atomic.Bool // source has been read to its end, with success

	reading sync.Mutex // held while source is read

	mu      sync.Mutex // guards what follows; never held while source is read
	attempt int        // whose readers may read
	kept    [][]byte   // what was read so far, unless lost
	lost    bool       // it was too much to be kept
	size    int64      // how much was read so far
	taken   int        // from memory
	err     error      // that ended source
	closed  bool
}

// NewBody returns the body of a request of that length, -1 if it is not known. At
// most limit bytes of it are kept, and no more than memory has. Close it when
// the request is over.
func NewBody(source io.Reader, length int64, memory *Memory, limit int64) *Body {
	return &Body{source: source, length: length, memory: memory, limit: limit}
}

// Reader returns a reader for the current attempt, from the body's first byte
// on. If that is lost, it fails. A reader of an attempt that is over fails with
// http.ErrBodyReadAfterClose, unless it has read all.
func (b *Body) Reader() io.ReadCloser {
	b.mu.Lock()
	defer b.mu.Unlock()
	return &reader{body: b, attempt: b.attempt}
}

// EndAttempt ends the reading of all readers there are. What one of them is
// just reading is kept for the next attempt.
func (b *Body) EndAttempt() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.attempt++
}

// Ended reports whether the body has been read to its end, with success.
func (b *Body) Ended() bool { return b.done.Load() }

// Repeatable reports whether a new reader can read the body.
func (b *Body) Repeatable() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.lost
}

// Failure returns the error that the client's sending ended with, nil if it
// has not failed.
func (b *Body) Failure() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == io.EOF {
		return nil
	}
	return b.err
}

// Received returns how many bytes were read so far.
func (b *Body) Received() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.size
}

// Close ends all reading, and gives the memory back. To read a request's body
// after its handler has returned is forbidden.
func (b *Body) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.forget()
}

// forget is called with mu held.
func (b *Body) forget() {
	b.memory.give(b.taken)
	for _, chunk := range b.kept {
		b.memory.recycle(chunk)
	}
	b.kept, b.taken, b.lost = nil, 0, true
}

// reader reads the body for one attempt.
type reader struct {
	body    *Body
	attempt int
	closed  bool // guarded by body.mu, as is what follows
	offset  int64
	chunk   int // of body.kept, that offset is in
	inside  int // that chunk
}

// over is called with body.mu held.
func (r *reader) over() bool { return r.closed || r.attempt != r.body.attempt }

// Read gives what was kept, then what source gives.
func (r *reader) Read(p []byte) (int, error) {
	if n, err, ok := r.readKept(p); ok {
		return n, err
	}
	r.body.reading.Lock()
	defer r.body.reading.Unlock()
	// Another attempt's reader may have had the lock.
	if n, err, ok := r.readKept(p); ok {
		return n, err
	}
	n, err := r.body.source.Read(p)
	return r.took(p[:n], err)
}

// readKept reads what needs no reading of source.
func (r *reader) readKept(p []byte) (n int, err error, ok bool) {
	b := r.body
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case r.offset == b.size && b.err == io.EOF:
		// Also after its attempt: the body was sent whole, and the connection
		// can be used again.
		return 0, io.EOF, true
	case r.over() || b.closed:
		return 0, http.ErrBodyReadAfterClose, true
	case r.offset == b.size:
		return 0, b.err, b.err != nil
	case b.lost:
		return 0, http.ErrBodyReadAfterClose, true
	}
	for n < len(p) && r.chunk < len(b.kept) {
		copied := copy(p[n:], b.kept[r.chunk][r.inside:])
		n += copied
		r.inside += copied
		r.offset += int64(copied)
		if r.inside == len(b.kept[r.chunk]) && r.chunk < len(b.kept)-1 {
			r.chunk++
			r.inside = 0
		} else if copied == 0 {
			break
		}
	}
	return n, nil, true
}

// took notes what came from source.
func (r *reader) took(data []byte, err error) (int, error) {
	b := r.body
	b.mu.Lock()
	defer b.mu.Unlock()
	b.size += int64(len(data))
	b.keep(data, r.over() && !b.closed)
	b.err = err
	if err == io.EOF {
		b.done.Store(true)
	}
	if r.over() {
		// A transport that was given the body's end now would use the
		// connection again, of whose state nobody knows.
		return 0, http.ErrBodyReadAfterClose
	}
	r.skip(len(data))
	return len(data), err
}

// keep adds data, which size counts already, to what is kept, or forgets all
// if that is too much. What a reader has read after its attempt was over must
// not be lost, whatever the limit: the next attempt needs it, and it is one
// read at most.
func (b *Body) keep(data []byte, must bool) {
	if b.lost {
		return
	}
	if !must && b.size > b.limit {
		b.forget()
		return
	}
	if last := len(b.kept) - 1; last >= 0 {
		free := cap(b.kept[last]) - len(b.kept[last])
		n := min(free, len(data))
		b.kept[last] = append(b.kept[last], data[:n]...)
		data = data[n:]
	}
	if len(data) == 0 {
		return
	}
	size := b.chunkSize(len(data))
	if must {
		b.memory.overdraw(size)
	} else if !b.memory.take(size) {
		b.forget()
		return
	}
	b.taken += size
	b.kept = append(b.kept, append(b.memory.chunk(size), data...))
}

// chunkSize returns the size of a new chunk for the last n bytes and some of
// what follows: few chunks, however small the reads, and none of them larger
// than it has to be.
func (b *Body) chunkSize(n int) int {
	size := int64(4 << 10)
	if b.length >= 0 {
		size = min(int64(n)+b.length-b.size, maxChunk)
	}
	return max(n, int(size))
}

// skip moves the reader over n bytes that it has given without them being
// read from kept.
func (r *reader) skip(n int) {
	r.offset += int64(n)
	if r.body.lost {
		return
	}
	r.chunk = max(0, len(r.body.kept)-1)
	r.inside = 0
	if len(r.body.kept) > 0 {
		r.inside = len(r.body.kept[r.chunk])
	}
}

// Close ends the attempt's reading, at once: another attempt's reader can go
// on while a Read of this one is under way. It does not close source.
func (r *reader) Close() error {
	r.body.mu.Lock()
	defer r.body.mu.Unlock()
	r.closed = true
	return nil
}
