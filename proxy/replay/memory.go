package replay

import (
	"sync"
	"sync/atomic"
)

// A Memory limits how many bytes of bodies are kept, for all requests together. It is safe
// for concurrent use.
type Memory struct {
	left   atomic.Int64 // negative after overdraw
	chunks sync.Pool    // unused chunks of maxChunk bytes
}

// NewMemory returns a Memory of size bytes.
func NewMemory(size int64) *Memory {
	m := new(Memory)
	m.left.Store(size)
	return m
}

// maxChunk is the size of most chunks of a large body, in bytes: a bit less than
// 32 KiB, so that a chunk and the bytes that TLS adds to it fit into 32 KiB.
const maxChunk = 32<<10 - 512

// chunk returns an empty chunk with room for size bytes.
func (m *Memory) chunk(size int) []byte {
	if size == maxChunk {
		if used, ok := m.chunks.Get().(*[maxChunk]byte); ok {
			return used[:0]
		}
	}
	return make([]byte, 0, size)
}

// recycle keeps an unused chunk for the next body.
func (m *Memory) recycle(chunk []byte) {
	if cap(chunk) == maxChunk {
		m.chunks.Put((*[maxChunk]byte)(chunk[:maxChunk]))
	}
}

// take takes n bytes, or reports false if fewer are left.
func (m *Memory) take(n int) bool {
	if m.left.Add(int64(-n)) >= 0 {
		return true
	}
	m.left.Add(int64(n))
	return false
}

// overdraw takes n bytes, even if fewer are left.
func (m *Memory) overdraw(n int) { m.left.Add(int64(-n)) }

// give returns n bytes.
func (m *Memory) give(n int) { m.left.Add(int64(n)) }
