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
	lent    int        // how many readers use memory of kept
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
func (b *Body) Reader() *Reader {
	b.mu.Lock()
	defer b.mu.Unlock()
	return &Reader{body: b, attempt: b.attempt}
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
	if b.lent == 0 { // otherwise the memory is still used, and left to the garbage collector
		for _, chunk := range b.kept {
			b.memory.recycle(chunk)
		}
	}
	b.kept, b.taken, b.lost = nil, 0, true
}

// A Reader reads the body for one attempt. Only Close may be called at the same
// time as another of its methods.
type Reader struct {
	body    *Body
	attempt int
	closed  bool // guarded by body.mu, as is what follows
	offset  int64
	chunk   int  // of body.kept, that offset is in
	inside  int  // that chunk
	lent    bool // its user may be reading memory of body.kept
}

// over is called with body.mu held.
func (r *Reader) over() bool { return r.closed || r.attempt != r.body.attempt }

// Read implements [io.Reader].
func (r *Reader) Read(p []byte) (int, error) {
	piece, err := r.next(p, len(p))
	n := copy(p, piece) // which does nothing if the piece is in p
	r.body.mu.Lock()
	defer r.body.mu.Unlock()
	r.giveBack()
	return n, err
}

// Next returns the next bytes of the body, or an error, without copying what is
// kept: the bytes are in the memory that keeps them, or in buffer. They may be read
// until the next call of Next or Read. The end of the body is io.EOF, and comes
// alone.
func (r *Reader) Next(buffer []byte) ([]byte, error) { return r.next(buffer, math.MaxInt) }

// next returns at most that many bytes of what was kept, then of what source gives.
func (r *Reader) next(buffer []byte, most int) ([]byte, error) {
	if piece, err, ok := r.nextKept(most); ok {
		return piece, err
	}
	r.body.reading.Lock()
	defer r.body.reading.Unlock()
	// Another attempt's reader may have had the lock.
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

// nextKept returns what needs no reading of source.
func (r *Reader) nextKept(most int) (piece []byte, err error, ok bool) {
	b := r.body
	b.mu.Lock()
	defer b.mu.Unlock()
	r.giveBack()
	switch {
	case r.offset == b.size && b.err == io.EOF:
		// Also after its attempt: the body was sent whole, and the connection
		// can be used again.
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

// room returns memory that source can be read into and that keeps what was read,
// nil if there is none.
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

// took notes what came from source, kept already if it was read into room.
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
		// A transport that was given the body's end now would use the
		// connection again, of whose state nobody knows.
		r.giveBack()
		return nil, http.ErrBodyReadAfterClose
	}
	r.skip(len(data))
	if len(data) > 0 {
		err = nil // it comes next
	}
	return data, err
}

// lend notes that the reader's user has memory of kept. It is called with body.mu
// held, as is giveBack.
func (r *Reader) lend() {
	r.lent = true
	r.body.lent++
}

func (r *Reader) giveBack() {
	if r.lent {
		r.lent = false
		r.body.lent--
	}
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
	b.add(size)
	last := len(b.kept) - 1
	b.kept[last] = append(b.kept[last], data...)
}

// add adds a chunk, whose memory has been taken.
func (b *Body) add(size int) {
	b.taken += size
	b.kept = append(b.kept, b.memory.chunk(size))
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

// Close ends the attempt's reading, at once: another attempt's reader can go
// on while a Read of this one is under way. It does not close source.
func (r *Reader) Close() error {
	r.body.mu.Lock()
	defer r.body.mu.Unlock()
	r.closed = true
	return nil
}
