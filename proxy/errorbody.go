package proxy

import (
	"io"
	"sync"
	"time"
)

// maxErrorBody is how much of an error's body is parsed, in bytes. HubSpot's errors are
// shorter.
const maxErrorBody = 64 << 10

// categoryTimeout is how long the proxy waits for the body of a 401 to read its category.
const categoryTimeout = time.Second

// errorBody is the body of an error. A goroutine reads its first maxErrorBody bytes ahead,
// because the body may arrive slowly and nobody should wait longer than categoryTimeout
// for the category. Read returns all bytes of the body from the beginning.
type errorBody struct {
	body   io.ReadCloser
	onWait func() // nil means no callback

	mu    sync.Mutex
	more  sync.Cond // signals that head, err or ready has changed
	head  []byte    // bytes read ahead that Read has not returned yet
	err   error     // the error that ended reading ahead
	ready bool      // reading ahead has ended
}

// newErrorBody begins to read the body ahead. It returns when reading ahead has ended, or
// after categoryTimeout.
func newErrorBody(body io.ReadCloser) *errorBody {
	e := &errorBody{body: body}
	e.more.L = &e.mu
	ready := make(chan struct{})
	go func() {
		defer close(ready)
		e.readHead()
	}()
	timeout := time.NewTimer(categoryTimeout)
	defer timeout.Stop()
	select {
	case <-ready:
	case <-timeout.C:
	}
	return e
}

func (e *errorBody) readHead() {
	buffer := make([]byte, 4<<10)
	for read := 0; read < maxErrorBody; {
		n, err := e.body.Read(buffer[:min(len(buffer), maxErrorBody-read)])
		read += n
		e.mu.Lock()
		e.head = append(e.head, buffer[:n]...)
		e.err = err
		e.more.Broadcast()
		e.mu.Unlock()
		if err != nil {
			break
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ready = true
	e.more.Broadcast()
}

// OnWait implements upstream.Body.
func (e *errorBody) OnWait(f func()) { e.onWait = f }

// beginning returns the bytes that were read ahead. whole is false if
// reading ahead has not ended.
func (e *errorBody) beginning() (head []byte, whole bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.head, e.ready
}

// Read implements io.Reader.
func (e *errorBody) Read(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for len(e.head) == 0 && !e.ready {
		e.wait()
		if len(e.head) == 0 && !e.ready {
			e.more.Wait()
		}
	}
	if len(e.head) > 0 {
		n := copy(p, e.head)
		e.head = e.head[n:]
		return n, nil
	}
	if e.err != nil {
		return 0, e.err
	}
	e.wait()
	return e.body.Read(p)
}

// wait calls onWait. The caller holds mu; wait releases it during the call.
func (e *errorBody) wait() {
	if e.onWait != nil {
		e.mu.Unlock()
		e.onWait()
		e.mu.Lock()
	}
}

// Close implements io.Closer.
func (e *errorBody) Close() error { return e.body.Close() }
