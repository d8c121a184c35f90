package upstream

import (
	"errors"
	"os"
	"time"
)

// Write sends p, or keeps it to be sent together with what follows.
func (r *rawConn) Write(p []byte) (int, error) {
	r.writing.Lock()
	defer r.writing.Unlock()
	if len(r.gathered)+len(p) <= cap(r.gathered) {
		r.gathered = append(r.gathered, p...)
		return len(p), nil
	}
	if err := r.sendGathered(); err != nil {
		return 0, err
	}
	return r.send(p)
}

// gather has what is written kept in the buffer until that is full or flush is
// called: TLS writes each of its records by itself. nil ends it, and sends what was
// written since the last flush: TLS answers a KeyUpdate in the goroutine that reads,
// at any time.
func (r *rawConn) gather(buffer []byte) {
	r.writing.Lock()
	defer r.writing.Unlock()
	_ = r.sendGathered()
	r.gathered = buffer[:0]
}

func (r *rawConn) flush() error {
	r.writing.Lock()
	defer r.writing.Unlock()
	return r.sendGathered()
}

func (r *rawConn) sendGathered() error {
	if len(r.gathered) == 0 {
		return r.broken
	}
	_, err := r.send(r.gathered)
	r.gathered = r.gathered[:0]
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

// write writes p, unless the server takes nothing of it for stallTimeout.
//
// The system's deadline is a part of that, so that progress is seen, and is not
// set for each write: a deadline that fires early is set anew.
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

// limit sets how long the server may take nothing.
func (r *rawConn) limit(stallTimeout time.Duration) {
	r.writing.Lock()
	defer r.writing.Unlock()
	r.stallTimeout = stallTimeout
	r.answered.Store(false)
}

// extend sets the system's deadline for writing.
func (r *rawConn) extend(now time.Time) {
	r.writeUntil = now.Add(max(r.stallTimeout/4, time.Millisecond))
	_ = r.SetWriteDeadline(r.writeUntil)
}

// hasWritten reports whether anything of the request may have left. It waits for
// a write that is under way: the connection must have been closed before.
func (r *rawConn) hasWritten() bool {
	r.writing.Lock()
	defer r.writing.Unlock()
	return r.written
}
