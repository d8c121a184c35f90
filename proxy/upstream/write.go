package upstream

import (
	"errors"
	"os"
	"time"
)

// Write sends p, or adds it to the buffer of gather if there is room.
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

// gather makes Write collect bytes in the buffer until the buffer is full or flush runs.
// This saves system calls, because crypto/tls makes one Write per record. A nil buffer
// ends collecting, and sends what is still collected: crypto/tls may have written since
// the last flush, because it answers a KeyUpdate in the goroutine that reads.
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
		return r.writeErr
	}
	_, err := r.send(r.gathered)
	r.gathered = r.gathered[:0]
	return err
}

func (r *rawConn) send(p []byte) (int, error) {
	if r.writeErr != nil {
		return 0, r.writeErr
	}
	n, err := r.write(p)
	r.written = r.written || n > 0
	r.writeErr = err
	return n, err
}

// write writes p. It fails if the server reads nothing for stallTimeout and has not
// answered.
//
// The socket's write deadline is a quarter of stallTimeout, so that write sees whether
// the server has read a part of p. write does not set the deadline for every call; when
// an old deadline fires early, write sets it anew.
func (r *rawConn) write(p []byte) (written int, err error) {
	if r.stallTimeout == 0 {
		return r.Conn.Write(p)
	}
	r.progress = time.Now()
	if r.writeUntil.Before(r.progress) {
		r.extendWriteDeadline(r.progress)
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
		r.extendWriteDeadline(now)
	}
}

// setStallTimeout sets how long the server may read nothing. Zero means no limit.
func (r *rawConn) setStallTimeout(stallTimeout time.Duration) {
	r.writing.Lock()
	defer r.writing.Unlock()
	r.stallTimeout = stallTimeout
	r.answered.Store(false)
}

// extendWriteDeadline sets the socket's write deadline to a quarter of stallTimeout
// from now.
func (r *rawConn) extendWriteDeadline(now time.Time) {
	r.writeUntil = now.Add(max(r.stallTimeout/4, time.Millisecond))
	_ = r.SetWriteDeadline(r.writeUntil)
}

// hasWritten reports whether any byte of the request may have been sent. It waits for a
// write in progress, so close the connection before calling it.
func (r *rawConn) hasWritten() bool {
	r.writing.Lock()
	defer r.writing.Unlock()
	return r.written
}
