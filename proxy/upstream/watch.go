package upstream

import (
	"context"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync"
	"time"
)

// watch limits how long the server may take nothing of a request, or send no header
// when it has all of it. http.Transport has no limit for the first, and HTTP/2
// needs one: a stream whose window is never opened again is on a connection that
// works.
type watch struct {
	timeout time.Duration
	cancel  context.CancelCauseFunc

	mu    sync.Mutex
	timer *time.Timer // nil: not begun
	over  bool        // the answer's header has come
}

// watched sends the request by the transport, within the timeout. The function that
// it returns is to be called when the answer's body has been read.
func watched(transport http.RoundTripper, r *http.Request, timeout time.Duration) (*http.Response, context.CancelFunc, error) {
	if timeout == 0 {
		response, err := transport.RoundTrip(r)
		return response, func() {}, err
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	w := &watch{timeout: timeout, cancel: cancel}
	out := r.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { w.run() }}))
	if r.Body != nil {
		out.Body = &watchedBody{r.Body, w}
	}
	if r.GetBody != nil {
		out.GetBody = func() (io.ReadCloser, error) {
			body, err := r.GetBody()
			return &watchedBody{body, w}, err
		}
	}
	response, err := transport.RoundTrip(out)
	w.end()
	if err == nil && ctx.Err() == nil {
		return response, func() { cancel(nil) }, nil
	}
	if err == nil {
		_ = response.Body.Close()
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	cancel(nil)
	return nil, nil, err
}

// run begins the time, or begins it anew.
func (w *watch) run() {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.over:
	case w.timer == nil:
		w.timer = time.AfterFunc(w.timeout, func() { w.cancel(ErrTimeout) })
	default:
		w.timer.Reset(w.timeout)
	}
}

// pause stops the time while the client is waited for.
func (w *watch) pause() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		w.timer.Stop()
	}
}

func (w *watch) end() {
	w.pause()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
}

// watchedBody is a request's body whose reading shows that the server takes it.
type watchedBody struct {
	io.ReadCloser
	watch *watch
}

// Read implements io.Reader.
func (b *watchedBody) Read(p []byte) (int, error) {
	b.watch.pause()
	defer b.watch.run()
	return b.ReadCloser.Read(p)
}
