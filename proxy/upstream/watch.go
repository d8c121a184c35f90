package upstream

import (
	"context"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync"
	"time"
)

// watch cancels a request if the server reads nothing of the body for the timeout, or
// sends no header of an answer for that long after the request's last byte.
// http.Transport has no limit for reading the body. HTTP/2 needs one, because a server
// may stop reading one stream while its connection works and answers pings.
type watch struct {
	timeout time.Duration
	cancel  context.CancelCauseFunc

	mu    sync.Mutex
	timer *time.Timer // nil before there is a connection
	done  bool        // RoundTrip has returned
}

// watched sends the request through the transport, with the timeout of watch; zero means
// no limit. The caller must call the returned function when it has read the answer's
// body.
func watched(transport http.RoundTripper, r *http.Request, timeout time.Duration) (*http.Response, context.CancelFunc, error) {
	ctx, cancel := context.WithCancelCause(r.Context())
	w := &watch{timeout: timeout, cancel: cancel}
	out := r.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { w.restart() }}))
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

// restart starts the timeout from zero, unless the request is done.
func (w *watch) restart() {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.done || w.timeout == 0:
	case w.timer == nil:
		w.timer = time.AfterFunc(w.timeout, func() { w.cancel(ErrTimeout) })
	default:
		w.timer.Reset(w.timeout)
	}
}

// pause stops the timeout while the transport waits for the client's body.
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
	w.done = true
}

// watchedBody is a request's body. A Read of the body means that the server has taken the
// bytes of the Read before, so each Read restarts the timeout.
type watchedBody struct {
	io.ReadCloser
	watch *watch
}

// Read implements io.Reader.
func (b *watchedBody) Read(p []byte) (int, error) {
	b.watch.pause()
	defer b.watch.restart()
	return b.ReadCloser.Read(p)
}
