// Package replay keeps the body of a request while it streams, so that it can be
// sent a second time.
package replay

import (
	"io"
	"math"
	"net/http"
	"sync"
	"sync/atomic"
)

// A Body is the body of a request. While the body streams to the first attempt, a Body
// keeps the bytes, up to a limit, and returns them again to the next attempt. It is safe
// for concurrent use.
//
// Each attempt has its own reader, because a transport may still read the body of the first
// attempt after its answer has come (see http.RoundTripper).
type Body struct {
	source io.Reader
	length int64 // -1 if unknown
	limit  int64
	memory *Memory

	done atomic.Bool // source was read to io.EOF

	reading sync.Mutex // held while source is read

	mu      sync.Mutex // guards the fields below; never held while source is read
	attempt int        // the current attempt; readers of others must not read
	kept    [][]byte   // the bytes read so far, unless lost
	lost    bool       // kept was dropped, because the body is too long
	size    int64      // bytes read so far
	taken   int        // bytes taken from memory
	lent    int        // readers whose user may still read memory of kept
	err     error      // the error that source returned
	closed  bool
}

// NewBody returns the body of a request. A length of -1 means unknown. The Body keeps at
// most limit bytes, and only as many as memory has left. Close it when the request has
// ended.
func NewBody(source io.Reader, length int64, memory *Memory, limit int64) *Body {
	return &Body{source: source, length: length, memory: memory, limit: limit}
}

// Reader returns a reader for the current attempt. It reads from the body's first byte, and
// fails if that byte is no longer kept. When the attempt has ended, the reader fails with
// http.ErrBodyReadAfterClose, unless it has read the whole body.
func (b *Body) Reader() *Reader {
	b.mu.Lock()
	defer b.mu.Unlock()
	return &Reader{body: b, attempt: b.attempt}
}

// EndAttempt ends the current attempt: its readers fail from now on. Bytes of a Read that
// is in progress are kept for the next attempt.
func (b *Body) EndAttempt() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.attempt++
}

// Ended reports whether the body was read to its end without an error.
func (b *Body) Ended() bool { return b.done.Load() }

// Repeatable reports whether a new reader can read the body from its first byte.
func (b *Body) Repeatable() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.lost
}

// Failure returns the error of reading from the client, or nil if there was none.
func (b *Body) Failure() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == io.EOF {
		return nil
	}
	return b.err
}

// Received returns how many bytes of the client's body were read so far.
func (b *Body) Received() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.size
}

// Close makes all readers fail, and returns the memory. A handler must call Close before the
// handler returns, because net/http forbids reading a request's body after that time.
func (b *Body) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.forget()
}

// Wait waits for the Read of the client's body that is in progress, if there is one. After
// Close no other one begins.
func (b *Body) Wait() {
	b.reading.Lock()
	defer b.reading.Unlock()
}

// forget drops the kept bytes. The caller holds mu.
func (b *Body) forget() {
	b.memory.give(b.taken)
	if b.lent == 0 { // otherwise a user still reads the memory; the garbage collector frees it
		for _, chunk := range b.kept {
			b.memory.recycle(chunk)
		}
	}
	b.kept, b.taken, b.lost = nil, 0, true
}

// A Reader reads the body for one attempt. Close may be called while another method runs;
// other methods may not be called concurrently.
type Reader struct {
	body    *Body
	attempt int

	// The following fields are guarded by body.mu.
	closed bool
	offset int64 // position in the body
	chunk  int   // index in body.kept of the chunk that contains offset
	inside int   // position in that chunk
	lent   bool  // the reader's user may still read memory of body.kept
}

// over reports whether the reader must not read any more. The caller holds body.mu.
func (r *Reader) over() bool { return r.closed || r.attempt != r.body.attempt }

// Read returns the kept bytes first, and then reads from source.
func (r *Reader) Read(p []byte) (int, error) {
	piece, err := r.next(p, len(p))
	n := copy(p, piece) // does nothing if piece is the beginning of p
	r.body.mu.Lock()
	defer r.body.mu.Unlock()
	r.giveBack()
	return n, err
}

// Next returns the next bytes of the body, or an error, and does not copy kept bytes: the
// returned bytes are in the memory that keeps them, or in buffer. They are valid until the
// next call of Next or Read. At the body's end Next returns no bytes and io.EOF.
func (r *Reader) Next(buffer []byte) ([]byte, error) { return r.next(buffer, math.MaxInt) }

// next returns at most that many kept bytes, or reads from source.
func (r *Reader) next(buffer []byte, most int) ([]byte, error) {
	if piece, err, ok := r.nextKept(most); ok {
		return piece, err
	}
	r.body.reading.Lock()
	defer r.body.reading.Unlock()
	// Another attempt's reader may have read from source in the meantime.
	if piece, err, ok := r.nextKept(most); ok {
		return piece, err
	}
	if room := r.room(most); room != nil {
		n, err := r.body.source.Read(room)
		return r.took(room[:n], true, err)
	}
	n, err := r.body.source.Read(buffer)
	return r.took(buffer[:n], false, err)
}

// nextKept returns what is known without reading from source: kept bytes, or an error. ok
// is false if source must be read.
func (r *Reader) nextKept(most int) (piece []byte, err error, ok bool) {
	b := r.body
	b.mu.Lock()
	defer b.mu.Unlock()
	r.giveBack()
	switch {
	case r.offset == b.size && b.err == io.EOF:
		// Even after the attempt's end: the whole body was sent, so the transport
		// may use the connection again.
		return nil, io.EOF, true
	case r.over() || b.closed:
		return nil, http.ErrBodyReadAfterClose, true
	case r.offset == b.size:
		return nil, b.err, b.err != nil
	case b.lost:
		return nil, http.ErrBodyReadAfterClose, true
	}
	for r.inside == len(b.kept[r.chunk]) {
		r.chunk++
		r.inside = 0
	}
	piece = b.kept[r.chunk][r.inside:]
	piece = piece[:min(len(piece), most)]
	r.inside += len(piece)
	r.offset += int64(len(piece))
	r.lend()
	return piece, nil, true
}

// room returns memory to read source into, which keeps the bytes that are read, or nil if
// there is none.
func (r *Reader) room(most int) []byte {
	b := r.body
	b.mu.Lock()
	defer b.mu.Unlock()
	most = int(min(int64(most), b.limit-b.size))
	if b.lost || b.closed || most <= 0 || b.size >= b.length {
		return nil // if the length is not known, the next read may be small
	}
	last := len(b.kept) - 1
	if last < 0 || len(b.kept[last]) == cap(b.kept[last]) {
		size := b.chunkSize(0)
		if !b.memory.take(size) {
			return nil
		}
		b.add(size)
		last++
	}
	r.lend()
	used, size := len(b.kept[last]), cap(b.kept[last])
	return b.kept[last][used:size][:min(size-used, most)]
}

// took records what a Read of source returned, and returns the reader's own result. kept
// reports that data is already kept, in the memory that room returned.
func (r *Reader) took(data []byte, kept bool, err error) ([]byte, error) {
	b := r.body
	b.mu.Lock()
	defer b.mu.Unlock()
	b.size += int64(len(data))
	switch last := len(b.kept) - 1; {
	case !kept:
		b.keep(data, r.over() && !b.closed)
	case !b.lost:
		b.kept[last] = b.kept[last][:len(b.kept[last])+len(data)]
	}
	b.err = err
	if err == io.EOF {
		b.done.Store(true)
	}
	if r.over() {
		// io.EOF would let the transport use the connection again, although this
		// attempt did not get the whole body.
		r.giveBack()
		return nil, http.ErrBodyReadAfterClose
	}
	r.skip(len(data))
	if len(data) > 0 {
		err = nil // the next call returns the error
	}
	return data, err
}

// lend records that the reader's user has memory of kept. The caller holds body.mu.
func (r *Reader) lend() {
	r.lent = true
	r.body.lent++
}

// giveBack records that the reader's user no longer reads memory of kept. The caller holds
// body.mu.
func (r *Reader) giveBack() {
	if r.lent {
		r.lent = false
		r.body.lent--
	}
}

// keep adds data to the kept bytes, or drops all of them if they become too many. size
// already includes data. must overrides the limits: it is set for a Read that was in
// progress when its attempt ended, because the next attempt needs those bytes. There is at
// most one such Read.
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
	b.add(size)
	last := len(b.kept) - 1
	b.kept[last] = append(b.kept[last], data...)
}

// add appends an empty chunk. Its size was taken from memory before.
func (b *Body) add(size int) {
	b.taken += size
	b.kept = append(b.kept, b.memory.chunk(size))
}

// chunkSize returns the size of a new chunk for the last n bytes read. The chunk has room
// for later bytes too, so that small reads do not make many chunks. It is not larger than
// the rest of a body of known length.
func (b *Body) chunkSize(n int) int {
	size := int64(4 << 10)
	if b.length >= 0 {
		size = min(int64(n)+b.length-b.size, maxChunk)
	}
	return max(n, int(size))
}

// skip advances the reader by n bytes that it has read from source.
func (r *Reader) skip(n int) {
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

// Close ends this reader. It does not wait for a Read in progress, so the next attempt can
// begin at once. It does not close source.
func (r *Reader) Close() error {
	r.body.mu.Lock()
	defer r.body.mu.Unlock()
	r.closed = true
	return nil
}
