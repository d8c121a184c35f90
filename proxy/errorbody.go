package proxy

import (
	"io"
	"time"
)

// maxErrorBody is how much of an error's body is parsed, in bytes. HubSpot's errors are
// shorter.
const maxErrorBody = 64 << 10

// categoryTimeout is how long the proxy waits for the body of a 401 to read its category.
const categoryTimeout = time.Second

// errorBody is the body of an error whose beginning was read ahead. Read returns all bytes
// of the body from the beginning.
type errorBody struct {
	io.ReadCloser        // what was not read ahead
	onWait        func() // nil means no callback

	head    []byte          // bytes read ahead that Read has not returned yet
	err     error           // the error that ended reading ahead
	pending <-chan readPart // the Read that was in progress at the timeout; nil means none
}

// readPart is what a Read has returned.
type readPart struct {
	data []byte
	err  error
}

// readBeginning reads up to maxErrorBody bytes of a body ahead. whole is false if neither
// these bytes nor the body's end arrived within categoryTimeout, because no client should
// wait longer for an answer whose body is slow.
func readBeginning(body io.ReadCloser) (e *errorBody, whole bool) {
	e = &errorBody{ReadCloser: body}
	buffer, parts := make([]byte, 4<<10), make(chan readPart, 1)
	timeout := time.NewTimer(categoryTimeout)
	defer timeout.Stop()
	for len(e.head) < maxErrorBody && e.err == nil {
		most := min(len(buffer), maxErrorBody-len(e.head))
		go func() {
			n, err := body.Read(buffer[:most])
			parts <- readPart{buffer[:n], err}
		}()
		select {
		case part := <-parts:
			e.head, e.err = append(e.head, part.data...), part.err
		case <-timeout.C:
			e.pending = parts
			return e, false
		}
	}
	return e, true
}

// OnWait implements upstream.Body.
func (e *errorBody) OnWait(f func()) { e.onWait = f }

// Read implements io.Reader.
func (e *errorBody) Read(p []byte) (int, error) {
	if len(e.head) == 0 && e.err == nil && e.onWait != nil {
		e.onWait()
	}
	if len(e.head) == 0 && e.pending != nil {
		part := <-e.pending
		e.head, e.err, e.pending = part.data, part.err, nil
	}
	switch {
	case len(e.head) > 0:
		n := copy(p, e.head)
		e.head = e.head[n:]
		return n, nil
	case e.err != nil:
		return 0, e.err
	}
	return e.ReadCloser.Read(p)
}
