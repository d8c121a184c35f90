package replay

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"testing/iotest"
	"time"
)

// pattern returns n bytes, none of which is like its neighbours.
func pattern(n int) []byte {
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(i % 251)
	}
	return data
}

// memoryOf returns a memory of n bytes.
func memoryOf(n int64) *Memory {
	m := new(Memory)
	m.left.Store(n)
	return m
}

func TestASecondAttemptReadsTheBodyFromItsStart(t *testing.T) {
	for _, size := range []int{0, 1, 1 << 10, 64<<10 - 1, 64 << 10} {
		whole := pattern(size)
		for _, length := range []int64{-1, int64(size)} {
			b := NewBody(bytes.NewReader(whole), length, memoryOf(1<<20), 64<<10)
			for attempt := range 3 {
				got, err := io.ReadAll(b.Reader())
				if err != nil || !bytes.Equal(got, whole) {
					t.Errorf("size %d, length %d, attempt %d: %d bytes, %v", size, length, attempt, len(got), err)
				}
				b.EndAttempt()
				if !b.Repeatable() {
					t.Errorf("size %d, length %d: not repeatable", size, length)
				}
			}
		}
	}
}

func TestABodyOverTheLimitStreamsOnceAndKeepsNothing(t *testing.T) {
	whole := pattern(64<<10 + 1)
	m := memoryOf(1 << 20)
	b := NewBody(bytes.NewReader(whole), -1, m, 64<<10)
	got, err := io.ReadAll(b.Reader())
	if err != nil || !bytes.Equal(got, whole) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if left := m.left.Load(); left != 1<<20 {
		t.Errorf("%d bytes are left of %d", left, 1<<20)
	}
	b.EndAttempt()
	if b.Repeatable() {
		t.Error("repeatable")
	}
	if n, err := b.Reader().Read(make([]byte, 8)); n != 0 || err == nil || err == io.EOF {
		t.Errorf("a reader of what is lost gives %d bytes, %v", n, err)
	}
}

func TestMemoryThatIsUsedUpMakesABodyUnrepeatable(t *testing.T) {
	whole := pattern(16 << 10)
	m := memoryOf(8 << 10)
	b := NewBody(bytes.NewReader(whole), -1, m, 1<<20)
	got, err := io.ReadAll(b.Reader())
	if err != nil || !bytes.Equal(got, whole) || b.Repeatable() {
		t.Errorf("%d bytes, %v, repeatable %v", len(got), err, b.Repeatable())
	}
	b.Close()
	if left := m.left.Load(); left != 8<<10 {
		t.Errorf("%d bytes are left of %d", left, 8<<10)
	}
}

// heldReader gives one piece each time it is allowed to.
type heldReader struct {
	asked chan struct{}
	give  chan []byte
}

func (h heldReader) Read(p []byte) (int, error) {
	h.asked <- struct{}{}
	data, open := <-h.give
	if !open {
		return 0, io.EOF
	}
	return copy(p, data), nil
}

// What a transport is just reading for the attempt that is over is neither
// lost nor given to two attempts, and needs no memory that is free.
func TestAReadUnderWayIsKeptForTheNextAttempt(t *testing.T) {
	for _, left := range []int64{1 << 20, 0} {
		source := heldReader{make(chan struct{}), make(chan []byte)}
		m := memoryOf(left)
		b := NewBody(source, -1, m, 4)
		first := make(chan error)
		go func() {
			_, err := b.Reader().Read(make([]byte, 64))
			first <- err
		}()
		<-source.asked
		b.EndAttempt()
		if !b.Repeatable() {
			t.Fatal("not repeatable")
		}
		second := make(chan []byte)
		go func() {
			got, _ := io.ReadAll(b.Reader())
			second <- got
		}()
		source.give <- []byte("more than the limit")
		if err := <-first; err == nil || err == io.EOF {
			t.Errorf("the attempt that is over read on: %v", err)
		}
		<-source.asked
		close(source.give)
		if got := <-second; string(got) != "more than the limit" {
			t.Errorf("memory %d: the second attempt read %q", left, got)
		}
		b.Close()
		if now := m.left.Load(); now != left {
			t.Errorf("memory %d: %d bytes are left afterwards", left, now)
		}
	}
}

func TestReadersOfAnAttemptThatIsOverFail(t *testing.T) {
	b := NewBody(bytes.NewReader(pattern(100)), 100, memoryOf(1<<20), 1<<20)
	old := b.Reader()
	if _, err := io.ReadFull(old, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	b.EndAttempt()
	if n, err := old.Read(make([]byte, 10)); n != 0 || err == nil || err == io.EOF {
		t.Errorf("%d bytes, %v", n, err)
	}
	closed := b.Reader()
	_ = closed.Close()
	if n, err := closed.Read(make([]byte, 10)); n != 0 || err == nil || err == io.EOF {
		t.Errorf("closed: %d bytes, %v", n, err)
	}
	fresh := b.Reader()
	b.Close()
	if n, err := fresh.Read(make([]byte, 10)); n != 0 || err == nil || err == io.EOF {
		t.Errorf("after close: %d bytes, %v", n, err)
	}
}

func TestTheClientsErrorReachesEveryReader(t *testing.T) {
	broken := errors.New("broken off")
	b := NewBody(io.MultiReader(bytes.NewReader(pattern(100)), iotest.ErrReader(broken)), -1, memoryOf(1<<20), 1<<20)
	for range 2 {
		got, err := io.ReadAll(b.Reader())
		if len(got) != 100 || err != broken {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		b.EndAttempt()
	}
	if b.Failure() != broken || b.done.Load() {
		t.Errorf("failure %v, done %v", b.Failure(), b.done.Load())
	}
}

// Whatever the sizes of the reads, hardly more memory is taken than bytes are
// kept.
func TestSmallReadsTakeLittleMemory(t *testing.T) {
	const limit, chunk = 256 << 10, 32 << 10
	for _, size := range []int{1, 7, 100, 2049, 4097, 5000, 16<<10 + 1, 20 << 10} {
		for _, length := range []int64{-1, limit} {
			m := memoryOf(1 << 30)
			b := NewBody(&piecesReader{data: pattern(limit), size: func() int { return size }}, length, m, limit)
			if got, err := io.ReadAll(b.Reader()); err != nil || !bytes.Equal(got, pattern(limit)) {
				t.Fatalf("%d bytes, %v", len(got), err)
			}
			if taken := 1<<30 - m.left.Load(); taken > limit+chunk || !b.Repeatable() {
				t.Errorf("reads of %d, length %d: %d bytes are taken for %d", size, length, taken, limit)
			}
			if len(b.kept) > limit/(4<<10)+2 {
				t.Errorf("reads of %d, length %d: %d chunks", size, length, len(b.kept))
			}
		}
	}
}

// piecesReader gives data in pieces of some size, then err or io.EOF.
type piecesReader struct {
	data    []byte
	size    func() int
	err     error
	withErr bool // the last piece comes together with the error
}

func (r *piecesReader) Read(p []byte) (int, error) {
	end := r.err
	if end == nil {
		end = io.EOF
	}
	if len(r.data) == 0 {
		return 0, end
	}
	n := copy(p[:min(len(p), r.size())], r.data)
	r.data = r.data[n:]
	if len(r.data) == 0 && r.withErr {
		return n, end
	}
	return n, nil
}

// attempts plays a request that is sent twice, at random: readers that are
// replaced within an attempt (GetBody), an attempt that ends while its reader
// reads, a source that fails. It returns what the second attempt read.
func attempts(random *rand.Rand, whole []byte, limit, left int64, source io.Reader, length int64) (m *Memory, b *Body, got []byte, err error) {
	m = memoryOf(left)
	b = NewBody(source, length, m, limit)
	var work sync.WaitGroup
	steps, sizes, nexts := random.IntN(40), random.IntN(5000)+1, random.IntN(2) == 0
	first := b.Reader()
	if random.IntN(3) == 0 { // as a transport does with a connection that is dead
		_, _ = first.Read(make([]byte, random.IntN(100)+1))
		_ = first.Close()
		first = b.Reader()
	}
	work.Go(func() {
		defer first.Close()
		for range steps {
			if _, err := read(first, make([]byte, sizes), whole, nexts); err != nil {
				return
			}
		}
	})
	for range random.IntN(2000) {
		_ = b.Repeatable() // time passes
	}
	b.EndAttempt()
	if !b.Repeatable() {
		err = http.ErrBodyReadAfterClose
	} else {
		got, err = readAll(b.Reader(), whole, random.IntN(2) == 0)
	}
	work.Wait()
	return m, b, got, err
}

// read reads by Read or by Next, and reports an error if what came is not in whole.
func read(r *Reader, buffer, whole []byte, next bool) (piece []byte, err error) {
	if next {
		piece, err = r.Next(buffer)
	} else {
		var n int
		n, err = r.Read(buffer)
		piece = buffer[:n]
	}
	if !bytes.Contains(whole, piece) {
		err = errors.New("the body has no such piece")
	}
	return piece, err
}

// readAll is io.ReadAll, by Read or by Next.
func readAll(r *Reader, whole []byte, next bool) (got []byte, err error) {
	for {
		piece, err := read(r, make([]byte, 5000), whole, next)
		got = append(got, piece...)
		switch err {
		case nil:
		case io.EOF:
			return got, nil
		default:
			return got, err
		}
	}
}

// A transport may still send what it got for the attempt before, after the request
// has ended; another request's body must not take its place.
func TestMemoryThatATransportStillReadsIsNotUsedForAnotherBody(t *testing.T) {
	m := memoryOf(1 << 20)
	whole := pattern(2 * maxChunk)
	for range 100 {
		b := NewBody(bytes.NewReader(whole), int64(len(whole)), m, 1<<20)
		piece, err := b.Reader().Next(make([]byte, 1))
		if err != nil || len(piece) != maxChunk {
			t.Fatalf("%d bytes, %v", len(piece), err)
		}
		b.Close()
		other := NewBody(bytes.NewReader(make([]byte, len(whole))), int64(len(whole)), m, 1<<20)
		if _, err := readAll(other.Reader(), make([]byte, len(whole)), true); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(piece, whole[:maxChunk]) {
			t.Fatal("the piece has changed")
		}
		other.Close()
	}
}

// What was read to its end leaves its memory to the next body.
func TestABodyThatWasReadWholeLendsNothing(t *testing.T) {
	whole := pattern(3*maxChunk + 1)
	for _, next := range []bool{false, true} {
		b := NewBody(bytes.NewReader(whole), int64(len(whole)), memoryOf(1<<20), 1<<20)
		for range 2 {
			if got, err := readAll(b.Reader(), whole, next); err != nil || !bytes.Equal(got, whole) {
				t.Fatalf("%d bytes, %v", len(got), err)
			}
			b.EndAttempt()
		}
		if b.lent != 0 || len(b.kept) != 4 {
			t.Errorf("next %v: %d of %d chunks are lent", next, b.lent, len(b.kept))
		}
	}
}

func TestAnyInterleavingGivesTheSecondAttemptTheWholeBodyOrAnError(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	wholes, deadline := 0, time.Now().Add(20*time.Second)
	for range 3000 {
		if time.Now().After(deadline) {
			break
		}
		wholes += checkInterleaving(t, random)
	}
	if wholes < 100 {
		t.Errorf("only %d second attempts read a whole body", wholes)
	}
}

// checkInterleaving reports 1 if the second attempt read the whole body.
func checkInterleaving(t *testing.T, random *rand.Rand) int {
	t.Helper()
	whole := pattern(random.IntN(100_000))
	source := &piecesReader{data: whole, withErr: random.IntN(2) == 0}
	seed := random.Uint64()
	pieces := rand.New(rand.NewPCG(seed, seed)) // used under body.reading
	source.size = func() int { return pieces.IntN(8000) + 1 }
	if random.IntN(4) == 0 {
		source.err = io.ErrUnexpectedEOF
	}
	length := int64(-1)
	if random.IntN(2) == 0 {
		length = int64(len(whole))
	}
	limit, left := int64(random.IntN(150_000)), int64(random.IntN(200_000))
	m, b, got, err := attempts(random, whole, limit, left, source, length)
	if !bytes.HasPrefix(whole, got) {
		t.Fatalf("the second attempt read %d bytes that the client did not send so", len(got))
	}
	if err == nil && (len(got) != len(whole) || source.err != nil) {
		t.Fatalf("the second attempt read %d bytes of %d and a clean end", len(got), len(whole))
	}
	b.Close()
	if now := m.left.Load(); now != left {
		t.Fatalf("%d bytes are left of %d", now, left)
	}
	if err == nil {
		return 1
	}
	return 0
}

func FuzzSecondAttempt(f *testing.F) {
	f.Add(uint64(1), uint64(2))
	f.Fuzz(func(t *testing.T, a, b uint64) {
		checkInterleaving(t, rand.New(rand.NewPCG(a, b)))
	})
}

// Reading after the handler's end is forbidden, and memory is given back once
// only, however the readers and the end fall together.
func TestCloseGivesMemoryBackOnceWhileReadersRead(t *testing.T) {
	for range 300 {
		m := memoryOf(64 << 10)
		b := NewBody(bytes.NewReader(pattern(100_000)), -1, m, 50_000)
		var work sync.WaitGroup
		for range 3 {
			work.Go(func() { _, _ = io.Copy(io.Discard, b.Reader()) })
		}
		work.Go(b.EndAttempt)
		work.Go(b.Close)
		work.Go(b.Close)
		work.Wait()
		if left := m.left.Load(); left != 64<<10 {
			t.Fatalf("%d bytes are left of %d", left, 64<<10)
		}
	}
}
