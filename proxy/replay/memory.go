package replay

import (
	"sync"
	"sync/atomic"
)

// A Memory is how many bytes may still be kept of requests' bodies, for all
// requests together. It is safe for concurrent use.
type Memory struct {
	left   atomic.Int64
	chunks sync.Pool // of maxChunk bytes, to be used again
}

// NewMemory returns a memory of that many bytes.
func NewMemory(size int64) *Memory {
	m := new(Memory)
	m.left.Store(size)
	return m
}

// maxChunk is the size of most chunks of a large body.
const maxChunk = 32 << 10

// chunk returns an empty chunk with room for size bytes.
func (m *Memory) chunk(size int) []byte {
	if size == maxChunk {
		if used, ok := m.chunks.Get().(*[maxChunk]byte); ok {
			return used[:0]
		}
	}
	return make([]byte, 0, size)
}

// recycle takes a chunk that nobody reads any more.
func (m *Memory) recycle(chunk []byte) {
	if cap(chunk) == maxChunk {
		m.chunks.Put((*[maxChunk]byte)(chunk[:maxChunk]))
	}
}

// take reports whether n more bytes may be kept.
func (m *Memory) take(n int) bool {
	if m.left.Add(int64(-n)) >= 0 {
		return true
	}
	m.left.Add(int64(n))
	return false
}

// overdraw takes n bytes that must be kept, be they left or not.
func (m *Memory) overdraw(n int) { m.left.Add(int64(-n)) }

func (m *Memory) give(n int) { m.left.Add(int64(n)) }
