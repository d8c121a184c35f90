package proxy

import (
	"io"
	"sync"
	"time"
)

// categoryTimeout is how long the body of a 401 is waited for, for its category.
const categoryTimeout = time.Second

// errorBody is the body of an error, whose beginning is read in a goroutine of
// its own: it may be slow in coming, and nobody waits longer for the category
// than categoryTimeout. It reads as the body does.
type errorBody struct {
	body   io.ReadCloser
	onWait func() // nil: nobody needs to know

	mu    sync.Mutex
	more  sync.Cond // head, err or ready has changed
	head  []byte
	err   error // that reading the head ended with
	ready bool  // no more is read ahead
}

// newErrorBody begins to read the body, and waits for its beginning as long as
// categoryTimeout allows.
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

// beginning returns the body's beginning, or whole reports false because it has
// not come yet.
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

// wait is called with mu held.
func (e *errorBody) wait() {
	if e.onWait != nil {
		e.mu.Unlock()
		e.onWait()
		e.mu.Lock()
	}
}

// Close implements io.Closer.
func (e *errorBody) Close() error { return e.body.Close() }
